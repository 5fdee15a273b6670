"""The bytes of weights, against those that were asked for and those the system gave."""

import ctypes
import gc
from pathlib import Path

import pytest
import torch
from test_precision import llama
from torch import nn

from outpace.models.footprint import footprint, held_by, nbytes, weights
from outpace.models.int4_linear import Int4Linear
from outpace.models.int8_linear import Int8Linear, SmallInt8Linear
from outpace.models.precision import quantized
from outpace.models.tiny import tiny_model

STATUS = Path("/proc/self/status")


class Kept(nn.Module):
    """A parameter, two buffers, of which one is not stored, and a second name of the parameter."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(10, 10))
        self.again = self.weight
        self.register_buffer("stored", torch.zeros(7, dtype=torch.int8))
        self.register_buffer("computed", torch.zeros(1000), persistent=False)


class Pair(torch.Tensor):
    """A tensor of two tensors, one of them of two again."""

    parts: dict

    def __tensor_flatten__(self):
        return list(self.parts), {}

    def __getattr__(self, name):
        return self.parts[name]


def resident():
    """The resident set in bytes, what is free given back first."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    line = next(one for one in STATUS.read_text().splitlines() if one.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


def test_what_is_shared_counts_once_and_what_is_computed_not_at_all():
    layer = Kept()
    assert footprint(layer) == 400 + 7
    assert {id(one) for one in weights(layer)} == {id(layer.weight), id(layer.stored)}
    assert nbytes([layer.weight, layer.weight[2:], layer.weight.view(100)]) == 400
    assert nbytes([layer.weight, layer.stored]) == 407
    assert nbytes([]) == 0


def test_a_view_takes_the_storage_behind_it():
    layer = nn.Linear(4, 4, bias=False)
    layer.weight = nn.Parameter(torch.zeros(100, 4)[:4])
    assert footprint(layer) == 1600


def test_tensors_of_several_tensors_count_as_their_parts():
    inner, outer = torch.zeros(2).as_subclass(Pair), torch.zeros(2).as_subclass(Pair)
    inner.parts = {"codes": torch.zeros(5, dtype=torch.int8), "scales": torch.zeros(2)}
    outer.parts = {"packed": inner, "offsets": torch.zeros(3)}
    assert [one.numel() for one in held_by(outer)] == [5, 2, 3]
    assert nbytes(held_by(outer)) == 5 + 8 + 12


def test_a_model_and_its_dtype():
    wide, narrow = tiny_model(), tiny_model(dtype=torch.bfloat16)
    assert wide.weight_bytes == footprint(wide.model) == 4 * wide.parameters
    assert narrow.weight_bytes == 2 * narrow.parameters
    tied, apart = llama(tied=True), llama()
    assert apart.weight_bytes - tied.weight_bytes == 4 * 101 * 64


def test_a_copy_counts_what_it_shares_and_what_it_packed():
    model = llama(dtype=torch.bfloat16)
    matrices = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    for name in ("int8", "int4"):
        small = quantized(model, name)
        shared = nbytes(small.model.parameters())
        assert shared == model.weight_bytes - 2 * matrices
        assert small.weight_bytes == shared + small.packed_bytes
        assert small.weight_bytes < model.weight_bytes


@pytest.mark.parametrize("kind", [SmallInt8Linear, Int4Linear])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_bytes_are_those_of_the_buffers(kind, dtype):
    layer = kind(torch.randn(32, 128).to(dtype), nn.Parameter(torch.zeros(32, dtype=dtype)))
    assert layer.packed_bytes == nbytes(layer.buffers())
    assert footprint(layer) == layer.packed_bytes + 32 * dtype.itemsize


@pytest.mark.skipif(not STATUS.exists(), reason="the system does not tell")
def test_packed_bytes_are_what_the_resident_set_grows_by():
    weight = torch.randn(768, 1024, generator=torch.Generator().manual_seed(0))
    warm = [Int8Linear(weight, None) for _ in range(4)]
    before = resident()
    layers = [Int8Linear(weight, None) for _ in range(80)]
    grown = resident() - before
    said = sum(one.packed_bytes for one in layers)
    assert said == pytest.approx(80 * weight.numel(), rel=0.02)
    assert grown == pytest.approx(said, rel=0.15)
    # what they would take as they came is not within that
    assert grown != pytest.approx(80 * weight.nbytes, rel=0.15)
    assert len(warm) == 4
