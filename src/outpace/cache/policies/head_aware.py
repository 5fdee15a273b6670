"""Each head keeps what it looks at: a window, with the first tokens or without, or everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ...errors import InvalidArgument
from ..budgets import SINK_WINDOW, HeadBudgets
from .base import CachePolicy, Held, boundary
from .checks import need

_EVERY = 64


@dataclass(frozen=True)
class HeadAwarePolicy(CachePolicy):
    """Budgets of ``outpace heads``, one for each key head (as in arXiv 2410.10819, 2407.15891).

    Heads of a layer that keep equally many tokens are computed together, so that a short budget
    takes little memory.

    Args:
        budgets: the file ``outpace heads`` wrote.
        total: tokens of which each head keeps the share that its importance gives it, half of them
            at least: the first ones and the last. 0 goes by the kind and window of each head.
        every: tokens between two boundaries; 0 is 64.

    Raises:
        InvalidArgument: the file cannot be used, or a number out of range.
    """

    budgets: str
    total: int = 0
    every: int = 0
    _read: HeadBudgets = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        need(self.total >= 0, f"head_aware: total {self.total}: give 0 (by windows) or more")
        need(self.every >= 0, f"head_aware: every {self.every}: give 0 (chosen for you) or more")
        object.__setattr__(self, "_read", HeadBudgets.read(Path(self.budgets).expanduser()))

    @property
    def size(self) -> int | None:
        """The largest budget; None if a head keeps everything."""
        found = [self._budget(layer, head) for layer, head in self._all()]
        return None if None in found else max(one for one in found if one is not None)

    @property
    def block(self) -> int:
        """Tokens between two boundaries."""
        return self.every or _EVERY

    def due(self, length: int) -> int:
        """Return the first boundary after a length."""
        return boundary(length, self.block, self.block)

    def groups(self, layer: int, heads: int) -> Sequence[Sequence[int]]:
        """Return the heads of a layer with equal budgets, group by group."""
        found: dict[int | None, list[int]] = {}
        for head in range(heads):
            found.setdefault(self._budget(layer, head), []).append(head)
        return list(found.values())

    def kept(self, held: Held) -> Tensor | None:
        """Return the places of the first tokens and of the last ones, of each head."""
        budget, count = self._budget(held.layer, held.heads[0]), len(held)
        if budget is None or count <= budget:
            return None
        places = torch.arange(count, device=held.indices.device)
        columns = []
        for head in held.heads:
            sinks = min(self._sinks(held.layer, head), budget - 1)
            last = places[count - (budget - sinks) :]
            columns.append(torch.cat([places[:sinks], last]))
        return torch.stack(columns, dim=1)

    def check(self, layers: int, heads: int) -> None:
        """Compare the file with a model.

        Raises:
            InvalidArgument: it is of another one.
        """
        counts = {len(layer) for layer in self._read.layers}
        if len(self._read.layers) != layers or counts != {heads}:
            raise InvalidArgument(
                f"{self}: the file has {len(self._read.layers)} layers of {max(counts, default=0)} "
                f"key heads ({self._read.model}), the model {layers} of {heads}: "
                "run outpace heads on this model"
            )

    def _all(self) -> list[tuple[int, int]]:
        layers = enumerate(self._read.layers)
        return [(layer, head) for layer, heads in layers for head in range(len(heads))]

    def _budget(self, layer: int, head: int) -> int | None:
        """Return how many tokens a head keeps; None for all."""
        one = self._read.layers[layer][head]
        if self.total:
            return max(1, round(one.share * self.total))
        return None if one.window is None else one.window + self._sinks(layer, head)

    def _sinks(self, layer: int, head: int) -> int:
        """Return how many of the first tokens a head keeps."""
        with_sinks = self.total or self._read.layers[layer][head].kind == SINK_WINDOW
        return self._read.sinks if with_sinks else 0

    def __str__(self) -> str:
        total = f", total={self.total}" if self.total else ""
        own = f", every={self.every}" if self.every else ""
        return f"head_aware(budgets={self.budgets!r}{total}{own})"
