"""Whole numbers on their way from the host to where a model computes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def sent(numbers: Sequence[int] | Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return numbers as int64 on ``device``.

    To a GPU they go from pinned memory, so that the host need not wait until they are there.
    """
    if device.type == "cuda":
        pinned = torch.tensor(numbers, dtype=torch.int64, pin_memory=True)
        return pinned.to(device, non_blocking=True)
    # a third of the time that torch takes to read a list
    there = torch.from_numpy(np.array(numbers, dtype=np.int64))
    return there if device.type == "cpu" else there.to(device)


def at_hand(numbers: Tensor) -> list[int] | None:
    """Return ``[N]`` as a list where it lies on the host; None where one would have to wait."""
    if numbers.device.type != "cpu":
        return None
    found: list[int] = numbers.numpy().tolist()
    return found
