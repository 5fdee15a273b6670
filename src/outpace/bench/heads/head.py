"""The measures of an attention head, and their running sums over rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor

SINKS = 4
"""The first tokens of a text, which heads look at whatever they are (arXiv 2309.17453)."""
WINDOWS = (8, 24, 64, 256)
"""Last tokens, the row's own included, whose share is measured."""
FIRST = SINKS + WINDOWS[-1]
"""The first row that is measured: before it the sinks lie in the widest window."""

_TRACE = 1e-4
"""Less than this beside all tokens is rounding, not a sink score of the model."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a head does, each the mean over rows. Shares are of all attention, from 0 to 1.

    ``sinks + windows[-1] + far + aside`` is 1.

    Attributes:
        entropy: of a row's weights, in nats.
        relative_entropy: a share of ln(tokens it gives any weight), the most there could be.
        maximum: the largest weight of a row.
        first: on the first token.
        sinks: on the first :data:`SINKS` tokens.
        aside: on no token: what the model's own sink score takes (gpt-oss).
        windows: on the last :data:`WINDOWS` tokens.
        far: on the rest, between the sinks and the widest window: global.
        distance: how far back, as a share of the row's position.
    """

    entropy: float
    relative_entropy: float
    maximum: float
    first: float
    sinks: float
    aside: float
    windows: tuple[float, ...]
    far: float
    distance: float

    @property
    def recent(self) -> float:
        """On the narrowest window."""
        return self.windows[0]

    @property
    def local(self) -> float:
        """On the widest window outside the narrowest."""
        return self.windows[-1] - self.windows[0]


def _on_window(place: int) -> Callable[[Head], float]:
    return lambda head: head.windows[place]


MEASURES: dict[str, Callable[[Head], float]] = {
    "entropy": attrgetter("entropy"),
    "relative entropy": attrgetter("relative_entropy"),
    "maximum": attrgetter("maximum"),
    "first": attrgetter("first"),
    "sinks": attrgetter("sinks"),
    "aside": attrgetter("aside"),
    "recent": attrgetter("recent"),
    "local": attrgetter("local"),
    "global": attrgetter("far"),
    "distance": attrgetter("distance"),
    **{f"window {width}": _on_window(place) for place, width in enumerate(WINDOWS)},
}
"""The measures by the names they have in a record."""


def row_sums(weights: Tensor, start: int) -> Tensor:
    """Return the sums of all measures over rows, float64 ``[H, M]``; M as in :func:`head_of`.

    Args:
        weights: float32 ``[H, W, S]``; slots are positions.
        start: the position of the first row.
    """
    begin = max(0, FIRST - start)
    start, end = start + begin, start + weights.shape[1]
    weights = weights[:, begin:, :end]
    device = weights.device
    rows = torch.arange(start, end, device=device, dtype=torch.float32)
    keys = torch.arange(end, device=device, dtype=torch.float32)
    low = max(0, start + 1 - WINDOWS[-1])
    near, behind = weights[..., low:], rows[:, None] - keys[None, low:]
    windows = [(near * (behind < width)).sum(-1) for width in WINDOWS]
    total, sinks = weights.sum(-1), weights[..., :SINKS].sum(-1)
    aside = (1 - total).clamp(min=0)
    entropy = torch.special.entr(weights).sum(-1) + torch.special.entr(aside)
    places = torch.count_nonzero(weights, dim=-1) + (aside > _TRACE)
    relative = (entropy / places.clamp(min=2).log()).clamp(0, 1)
    reach = (total * rows - weights @ keys) / (total.clamp(min=_TRACE) * rows)
    measures = (
        entropy,
        relative,
        weights.amax(-1),
        weights[..., 0],
        sinks,
        aside,
        total - sinks - windows[-1],
        reach.clamp(0, 1),
        *windows,
    )
    return torch.stack([one.double().sum(-1) for one in measures], dim=-1).cpu()


def head_of(sums: Tensor, rows: int) -> Head:
    """Return the measures of a head from its sums ``[M]`` over ``rows`` rows."""
    entropy, relative, maximum, first, sinks, aside, far, distance, *windows = (
        sums / rows
    ).tolist()
    return Head(
        entropy,
        relative,
        maximum,
        first,
        sinks,
        aside,
        tuple(windows),
        max(0.0, far),  # a difference of sums
        distance,
    )
