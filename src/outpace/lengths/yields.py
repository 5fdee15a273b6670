"""What drafts of a drafter that has a budget of its own are worth, cut at various sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import sqrt

from ..types import Budget, Round
from .acceptance import PRIOR, WEIGHT

STEP = 1.05
"""A width that costs no more than so many times what a narrower one does is on the same step."""
ROUGHLY = 3
"""Steps towards the acceptance rate that explains a gain."""


class Yields:
    """Tokens gained and time taken by rounds with a draft, per limit on the number of nodes.

    A round tells what smaller limits would have gained: the accepted nodes numbered within them.
    So trees that number their best nodes first, as chains do, are judged at every size at once.

    Args:
        own: the budget the drafter has of its own.
        verifying: seconds of a forward of the target by width. Only limits that fill a step of
            that staircase are looked at.
        discount: weight of what was seen when more is seen.
        pull: share of what was seen that is forgotten each round.
    """

    def __init__(
        self,
        own: Budget,
        verifying: Mapping[int, float],
        *,
        discount: float = 0.97,
        pull: float = 0.01,
    ) -> None:
        self.sizes = [*(size for size in _steps(verifying) if size < own.nodes), own.nodes]
        self.budgets = [Budget(size, min(own.depth, size), own.confidence) for size in self.sizes]
        self._discount, self._kept = discount, 1 - pull
        count = len(self.sizes)
        self._seen = [0.0] * count
        self._gains = [0.0] * count
        self._squares = [0.0] * count
        self._times = [0.0] * count  # of verifying, in forwards over one token
        self._asked = self._found = 0.0

    def observe(self, turn: Round, allowed: int, forwards: Callable[[int], float]) -> None:
        """Count a round of a drafter that was asked.

        Args:
            turn: the round.
            allowed: the limit on nodes it had.
            forwards: what verifying takes, by draft tokens, in forwards over one token.
        """
        drafted, discount = turn.drafted, self._discount
        if not drafted:
            self.miss()
            return
        self._ask(found=True)
        path = turn.verdict.path
        for place, size in enumerate(self.sizes):
            if size > allowed and drafted >= allowed:
                break  # cut by the limit: a larger one might have drafted more
            gain = len(path) if size >= drafted else sum(node <= size for node in path)
            self._seen[place] = discount * self._seen[place] + 1
            self._gains[place] = discount * self._gains[place] + gain
            self._squares[place] = discount * self._squares[place] + gain * gain
            taken = forwards(min(size, drafted))
            self._times[place] = discount * self._times[place] + taken

    def miss(self) -> None:
        """Count a round in which the drafter was asked and had nothing."""
        self._ask(found=False)

    def _ask(self, *, found: bool) -> None:
        self._asked = self._discount * self._asked + 1
        self._found = self._discount * self._found + found

    def rest(self, rounds: int = 1) -> None:
        """Let rounds pass: a share of everything is forgotten in each."""
        kept = self._kept**rounds
        self._seen = [kept * one for one in self._seen]
        self._gains = [kept * one for one in self._gains]
        self._squares = [kept * one for one in self._squares]
        self._times = [kept * one for one in self._times]
        self._asked *= kept
        self._found *= kept

    @property
    def found(self) -> float:
        """How likely there is a draft; 1 before anything was seen."""
        return (1 + self._found) / (1 + self._asked)

    def gains(self, deviations: float = 0.0) -> list[float]:
        """Return the draft tokens accepted in a round with a draft, by the limit.

        What is not known of a limit is as within the one before: as much as a chain of that length
        gains at the same acceptance rate.
        """
        found, rate = [], PRIOR
        for place, size in enumerate(self.sizes):
            prior = _chain(rate, size)
            weight = WEIGHT + self._seen[place]
            mean = (WEIGHT * prior + self._gains[place]) / weight
            gain = mean
            if deviations:
                squares = WEIGHT * (prior * prior + prior) + self._squares[place]
                spread = sqrt(max(squares / weight - mean * mean, 0.0) / (weight + 1))
                gain = max(0.0, min(size, mean + deviations * spread))
            found.append(gain)
            rate = _rate(mean, size)
        return found

    def verifying(self, place: int, full: float) -> float:
        """Return what verifying takes within a limit, in forwards over one token.

        Args:
            place: the limit.
            full: what it takes with as many draft tokens as that.
        """
        return (full + self._times[place]) / (1 + self._seen[place])


def _steps(verifying: Mapping[int, float]) -> list[int]:
    """Return how many draft tokens fill each step of a staircase together with the root."""
    widths, ends = sorted(verifying), []
    first = verifying[widths[0]]
    for width, wider in pairwise(widths):
        if verifying[wider] > STEP * first:
            ends.append(width - 1)
            first = verifying[wider]
    return [size for size in ends if size > 0] or [1]


def _chain(rate: float, size: int) -> float:
    """Return the tokens accepted of a chain of ``size`` at an acceptance rate."""
    return size if rate >= 1 else rate * (1 - rate**size) / (1 - rate)


def _rate(gain: float, size: int) -> float:
    """Return the acceptance rate, roughly, at which a chain of ``size`` gains so much."""
    if gain >= size:
        return 1.0
    rate = gain / (1 + gain)
    for _ in range(ROUGHLY):
        rate = 1 - (1 - rate ** (size + 1)) / (1 + gain)
    return rate
