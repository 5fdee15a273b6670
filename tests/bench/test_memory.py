from pathlib import Path

import numpy as np
import pytest
import torch

from outpace.bench import memory
from outpace.bench.memory import available, highest, measure, ran_out, reserved

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


def test_where_the_mark_cannot_be_set_back_it_is_sampled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if measure(lambda: None, CPU) is None:
        pytest.skip("this system does not tell")
    np.ones(50_000_000).sum()  # the high-water mark says nothing of what follows
    monkeypatch.setattr(memory, "_RESET", tmp_path / "no such folder" / "clear_refs")
    monkeypatch.setattr(memory, "_EVERY", 0.001)

    def large() -> None:
        block = np.ones(20_000_000)
        for _ in range(100):
            block += 1

    grown = measure(large, CPU)
    assert grown is not None
    assert 159_000_000 <= grown[1] < 200_000_000
    nothing = measure(lambda: None, CPU)
    assert nothing is not None
    assert nothing[1] < 20_000_000
    assert nothing[0] < grown[0]


def test_sampling_ends_with_the_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if measure(lambda: None, CPU) is None:
        pytest.skip("this system does not tell")
    monkeypatch.setattr(memory, "_RESET", tmp_path / "no such folder" / "clear_refs")
    started = []

    class Watched(memory.Thread):
        def start(self) -> None:
            started.append(self)
            super().start()

    monkeypatch.setattr(memory, "Thread", Watched)

    def fails() -> None:
        raise KeyError("the call's own")

    with pytest.raises(KeyError, match="the call's own"):
        measure(fails, CPU)
    assert [one.is_alive() for one in started] == [False]


def test_the_highest_point_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = highest(CPU)
    if before is None:
        pytest.skip("this system does not tell")
    block = np.ones(20_000_000)
    with_block = highest(CPU)
    assert with_block is not None
    assert with_block >= block.nbytes
    del block
    assert highest(CPU) == pytest.approx(with_block, rel=0.05)
    assert reserved(CPU) is None
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "nothing")
    assert highest(CPU) is None
    (tmp_path / "nothing").write_text("Name: python\n")
    assert highest(CPU) is None
    (tmp_path / "nothing").write_text("Name: python\nVmHWM:\t  7 kB\n")
    assert highest(CPU) == 7168


def test_what_is_free_is_less_than_the_machine_has() -> None:
    free = available(CPU)
    assert free > 0
    if free == float("inf"):
        pytest.skip("this system does not tell")
    total = next(
        1024 * int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    assert free < total


def test_what_the_gpu_says(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (11, 22))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 33)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 44)
    assert (available(cuda), highest(cuda), reserved(cuda)) == (11, 33, 44)


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (KeyError("memory"), False),
    ],
)
def test_which_errors_are_of_memory(error: Exception, short: bool) -> None:
    assert ran_out(error) is short
