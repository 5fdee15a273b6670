"""What drafts of a drafter that has a budget of its own are worth, cut at various sizes."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

from ..types import Budget, Round
from .acceptance import PRIOR, WEIGHT

SIZES = (1, 3, 7, 15, 31, 63)
"""Draft tokens that fill a static width of a forward together with the root."""


class Yields:
    """Tokens gained and time taken by rounds with a draft, per limit on the number of nodes.

    A round tells what smaller limits would have gained: the accepted nodes numbered within them.
    So trees that number their best nodes first, as chains do, are judged at every size at once.

    Args:
        own: the budget the drafter has of its own.
        discount: weight of what was seen when more is seen.
        pull: share of what was seen that is forgotten each round.
    """

    def __init__(self, own: Budget, *, discount: float = 0.97, pull: float = 0.01) -> None:
        self.sizes = [*(size for size in SIZES if size < own.nodes), own.nodes]
        self.budgets = [Budget(size, min(own.depth, size), own.confidence) for size in self.sizes]
        self._discount, self._kept = discount, 1 - pull
        count = len(self.sizes)
        self._seen = [0.0] * count
        self._gains = [0.0] * count
        self._squares = [0.0] * count
        self._times = [0.0] * count  # of verifying, in forwards over one token
        # a chain of that length at the prior acceptance; wide trees are deeper than it by little
        self._prior = [sum(PRIOR**i for i in range(1, size + 1)) for size in self.sizes]
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
        self._asked = discount * self._asked + 1
        self._found = discount * self._found + 1
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
        self._asked = self._discount * self._asked + 1
        self._found *= self._discount

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

    def gain(self, place: int, deviations: float = 0.0) -> float:
        """Return the draft tokens accepted in a round with a draft, within the limit ``place``."""
        weight = WEIGHT + self._seen[place]
        mean = (WEIGHT * self._prior[place] + self._gains[place]) / weight
        if not deviations:
            return mean
        prior = self._prior[place]
        squares = WEIGHT * (prior * prior + prior) + self._squares[place]
        spread = sqrt(max(squares / weight - mean * mean, 0.0) / (weight + 1))
        return max(0.0, min(self.sizes[place], mean + deviations * spread))

    def verifying(self, place: int, full: float) -> float:
        """Return what verifying takes within a limit, in forwards over one token.

        Args:
            place: the limit.
            full: what it takes with as many draft tokens as that.
        """
        return (full + self._times[place]) / (1 + self._seen[place])
