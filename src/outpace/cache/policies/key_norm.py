"""Keys of small norm are kept: they get most of the attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from .base import CachePolicy, Held, boundary
from .checks import need
from .sized import SizedPolicy

Keep = Literal["low", "high", "random"]

STEPS = {torch.float64: 1 << 16, torch.float32: 1 << 16, torch.float16: 1 << 10}
"""So many different norms there are from one to its double, by the keys' dtype; else 128, as many
as there are numbers in bfloat16."""


@dataclass(frozen=True)
class KeyNormPolicy(CachePolicy):
    """Of each head a share of the keys, those of smallest norm (arXiv 2406.11430).

    Args:
        keep_ratio: the share that is kept at each boundary.
        skip_layers: the first layers keep everything.
        start_after: the first boundary.
        interval: tokens between two boundaries.

    Raises:
        InvalidArgument: a number out of range.
    """

    keep_ratio: float = 0.8
    skip_layers: int = 2
    start_after: int = 1000
    interval: int = 50

    def __post_init__(self) -> None:
        need(
            0 < self.keep_ratio < 1,
            f"key_norm: keep_ratio {self.keep_ratio}: give a number above 0 and below 1",
        )
        need(self.skip_layers >= 0, f"key_norm: skip_layers {self.skip_layers}: give 0 or more")
        need(self.start_after >= 1, f"key_norm: start_after {self.start_after}: give 1 or more")
        need(self.interval >= 1, f"key_norm: interval {self.interval}: give 1 or more")

    @property
    def block(self) -> int:
        """The interval."""
        return self.interval

    def due(self, length: int) -> int:
        """Return the first boundary after a length."""
        return boundary(length, self.start_after, self.interval)

    def kept(self, held: Held) -> Tensor | None:
        """Return the places of the keys of smallest norm, of each head."""
        count = int(len(held) * self.keep_ratio)
        if held.layer < self.skip_layers or not 0 < count < len(held):
            return None
        return smallest(_norms(held.keys), count)

    def __str__(self) -> str:
        return (
            f"key_norm(keep_ratio={self.keep_ratio}, skip_layers={self.skip_layers}, "
            f"start_after={self.start_after}, interval={self.interval})"
        )


@dataclass(frozen=True)
class FixedKeyNormPolicy(SizedPolicy):
    """So many keys of each head, by norm, the last ones in any case (arXiv 2406.11430).

    Args:
        size: how many are left at a boundary.
        protected_recent: the share of these that are the last ones, whatever their norm.
        keep: those of low norm, of high, or any, as a control.
        every: tokens between two boundaries; 0 chooses an eighth of the size, 64 at most.

    Raises:
        InvalidArgument: a number out of range, or another word.
    """

    size: int = 512
    protected_recent: float = 0.25
    keep: Keep = "low"
    every: int = 0

    def __post_init__(self) -> None:
        need(self.size >= 1, f"fixed_key_norm: size {self.size}: give 1 or more")
        need(
            0 <= self.protected_recent <= 1,
            f"fixed_key_norm: protected_recent {self.protected_recent}: give a share, 0 to 1",
        )
        need(
            self.keep in get_args(Keep),
            f"fixed_key_norm: keep {self.keep!r}: give 'low', 'high' or 'random'",
        )
        self._check_block("fixed_key_norm")

    def kept(self, held: Held) -> Tensor | None:
        """Return the places of the last keys and of those chosen by norm, of each head."""
        count = len(held)
        if count <= self.size:
            return None
        recent = int(self.size * self.protected_recent)
        older = count - recent
        norms = _norms(held.keys[:older])
        if self.keep == "high":
            norms = -norms
        elif self.keep == "random":
            seed = held.length * held.layers + held.layer
            generator = torch.Generator().manual_seed(seed)
            norms = torch.rand(norms.shape, generator=generator).to(norms.device)
        return with_last(smallest(norms, self.size - recent), older, count)

    def __str__(self) -> str:
        return (
            f"fixed_key_norm(size={self.size}, protected_recent={self.protected_recent}, "
            f"keep={self.keep}{self._own_block})"
        )


def _norms(keys: Tensor) -> Tensor:
    """Return the logarithms of the norms of ``keys [n, H, D]``, ``[n, H]``, in whole steps.

    In the first layer the keys of equal tokens have equal norms, up to rounding that depends on how
    many rows a forward had. In steps they are equal, and the earlier comes first, whatever was
    drafted.
    """
    norms: Tensor = keys.float().norm(dim=-1)
    return (norms.log2() * STEPS.get(keys.dtype, 128)).round()


def smallest(scores: Tensor, count: int) -> Tensor:
    """Return int64 ``[count, H]``: the places of the smallest of ``scores [n, H]``, ascending.

    Of equal ones the earlier.
    """
    order = torch.sort(scores, dim=0, stable=True).indices
    return order[:count].sort(dim=0).values


def with_last(chosen: Tensor, older: int, count: int) -> Tensor:
    """Return chosen places ``[k, H]`` and after them all from ``older`` to ``count``."""
    last = torch.arange(older, count, device=chosen.device)
    return torch.cat([chosen, last[:, None].expand(-1, chosen.shape[1])])
