import numpy as np
import pytest
import torch

from outpace.bench.memory import measure

CPU = torch.device("cpu")


def test_growth_is_what_a_call_needs() -> None:
    nothing = measure(lambda: None, CPU)
    if nothing is None:
        pytest.skip("this system does not tell")
    assert nothing[1] < 20_000_000
    kept = np.ones(5_000_000)
    grown = measure(lambda: np.ones(10_000_000).sum(), CPU)
    assert grown is not None
    assert 79_000_000 <= grown[1] < 110_000_000
    assert grown[0] > kept.nbytes + 79_000_000


def test_memory_freed_before_does_not_hide_growth() -> None:
    if measure(lambda: None, CPU) is None:
        pytest.skip("this system does not tell")
    blocks = [np.ones(10_000) for _ in range(500)]
    del blocks
    grown = measure(lambda: [np.ones(10_000) for _ in range(500)], CPU)
    assert grown is not None
    assert grown[1] > 30_000_000
