"""How many threads a forward is fastest with."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

NEAR = 1.03
"""Fewer threads are taken if they need no more than this times the least time."""
TURNS = 5


def best_threads(
    measure: Callable[[], float], counts: Sequence[int] | None = None
) -> tuple[int, dict[int, float]]:
    """Measure with several numbers of threads, in turn, and have the process use the best.

    Args:
        measure: returns the seconds of what is to be fast.
        counts: numbers of threads; None is 1, 2, 4 … and all the cores this process may use.

    Returns:
        The fewest threads that are within 3 % of the fastest, and the least seconds of each number.
    """
    counts = thread_counts() if counts is None else counts
    seconds = dict.fromkeys(counts, math.inf)
    with _threads_kept():
        for turn in range(TURNS + 1):  # the first one starts the threads
            for count in counts:
                torch.set_num_threads(count)
                taken = measure()
                if turn:
                    seconds[count] = min(seconds[count], taken)
    least = min(seconds.values())
    best = min(count for count in counts if seconds[count] <= NEAR * least)
    torch.set_num_threads(best)
    return best, seconds


def thread_counts() -> list[int]:
    """Return 1, 2, 4 … up to the cores this process may use, and their number."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    powers = [2**power for power in range(cores.bit_length()) if 2**power < cores]
    return [*powers, cores]


@contextmanager
def _threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
