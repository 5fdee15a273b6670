"""Whole numbers on their way from the host to where a model computes."""

from collections.abc import Sequence

import torch
from torch import Tensor


def sent(numbers: Sequence[int] | Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return numbers as int64 on ``device``.

    To a GPU they go from pinned memory, so that the host need not wait until they are there.
    """
    if device.type == "cuda":
        pinned = torch.tensor(numbers, dtype=torch.int64, pin_memory=True)
        return pinned.to(device, non_blocking=True)
    return torch.tensor(numbers, dtype=torch.int64).to(device)
