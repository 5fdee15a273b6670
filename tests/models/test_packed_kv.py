"""Keys and values in few bits: near what they were, each token on its own."""

import pytest
import torch

from outpace.models.packed_kv import Packed

NEAR = {"int8": 0.01, "int4": 0.12}


@pytest.mark.parametrize("kind", NEAR)
@pytest.mark.parametrize("width", [16, 32, 64, 80])
def test_it_is_near_what_it_was(kind: str, width: int) -> None:
    states = torch.randn(20, 3, width, generator=torch.Generator().manual_seed(0))
    packed = Packed.of(states, kind)
    error = (packed.states() - states).norm() / states.norm()
    assert 0 < float(error) < NEAR[kind]
    assert packed.states().shape == states.shape
    assert Packed.of(states.bfloat16(), kind).states().dtype == torch.bfloat16


@pytest.mark.parametrize("kind", NEAR)
def test_a_token_is_alone(kind: str) -> None:
    states = torch.randn(10, 2, 32, generator=torch.Generator().manual_seed(1))
    packed = Packed.of(states, kind)
    whole = packed.states()
    kept = packed.at(torch.tensor([1, 4, 7]))
    assert torch.equal(kept.states(), whole[[1, 4, 7]])
    both = Packed.of(states[:6], kind).then(Packed.of(states[6:], kind))
    assert torch.equal(both.states(), whole)
    assert len(both) == 10


def test_bytes_are_those_of_the_storages() -> None:
    states = torch.zeros(10, 2, 64)
    assert Packed.of(states, "int8").nbytes == 10 * 2 * (64 + 2)
    assert Packed.of(states, "int4").nbytes == 10 * 2 * (32 + 2 * 2 * 2)


@pytest.mark.parametrize("kind", NEAR)
def test_nothing_and_equal_numbers(kind: str) -> None:
    assert torch.equal(Packed.of(torch.zeros(2, 1, 32), kind).states(), torch.zeros(2, 1, 32))
    ones = Packed.of(torch.ones(2, 1, 32), kind).states()
    assert torch.allclose(ones, torch.ones(2, 1, 32), atol=2e-3)
