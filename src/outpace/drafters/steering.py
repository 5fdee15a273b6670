"""A shape from round to round."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from ..types import Draw, Round
from .shape import Shape


class Steering:
    """A shape that follows the acceptance, if it has a :class:`History`."""

    def __init__(self, shape: Shape) -> None:
        self._given = shape
        self.reset()

    def reset(self) -> None:
        """Go back to the shape as it was given."""
        self._shape = self._given
        self._notch = 0
        history = self._given.history
        self._shares: deque[float] = deque(maxlen=history.window if history else 1)

    def shape_for(self, draw: Draw) -> Shape:
        """Return the shape to draft with now, children drawn in this way."""
        return self._shape

    def observe(self, turn: Round) -> None:
        """Learn what share of its depth a round had accepted; one without a draft says nothing."""
        history = self._given.history
        if history is None or not turn.drafted:
            return
        self._shares.append(len(turn.verdict.path) / turn.tree.deepest())
        if len(self._shares) < history.window:
            return
        mean = sum(self._shares) / len(self._shares)
        if abs(mean - history.target) <= history.band + 1e-9:  # 0.8 is within 0.7 ± 0.1
            return
        given, deeper = self._given, self._given.deepening
        if deeper is None:
            first = given.depth
            last = min(2 * first, given.nodes if given.keep is None else given.keep)
        else:
            first, last = deeper.base, given.depth
        notch = self._notch + (1 if mean > history.target else -1)
        self._notch = max(1 - first, min(last - first, notch))
        self._shape = self._moved(-history.step * self._notch) if self._notch else given

    def _moved(self, by: float) -> Shape:
        """Return the shape so many notches deeper, its thresholds moved."""
        given, deeper = self._given, self._given.deepening
        tau = _moved(given.tau, by)
        if deeper is None:
            return replace(given, depth=given.depth + self._notch, tau=tau)
        deeper = replace(
            deeper,
            stop=_moved(deeper.stop, by),
            deepen=_moved(deeper.deepen, by),
            base=deeper.base + self._notch,
        )
        return replace(given, tau=tau, deepening=deeper)


def _moved(share: float, by: float) -> float:
    """Return a threshold moved, within 0.01 … 0.99; one that is off stays off."""
    return min(0.99, max(0.01, share + by)) if share else share
