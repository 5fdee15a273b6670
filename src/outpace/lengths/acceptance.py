"""How likely a draft token of each depth is accepted, and how likely there is one to accept."""

from __future__ import annotations

from math import sqrt

PRIOR, WEIGHT = 0.6, 2.0
"""The acceptance rate taken for granted at first, and how many draft tokens that is worth."""
LEARNING = 0.03
LOWEST, HIGHEST = 0.45, 0.8
"""How fast the prior follows the first draft tokens, and how far: a drafter that was wrong for long
is tried less often, but tried."""


class Acceptance:
    """Beta posteriors per depth; what is old counts less, and drifts back to the prior.

    Depth i is observed only in rounds that accepted all depths before it. The drift back is what
    makes a depth that was given up look worth another try after a while.

    Args:
        depths: how many are told apart.
        discount: weight of what was seen at a depth when that depth is seen again.
        pull: share of what was seen that is forgotten each round.
    """

    def __init__(self, depths: int, *, discount: float = 0.97, pull: float = 0.01) -> None:
        self._discount, self._kept = discount, 1 - pull
        self.prior = PRIOR
        self.hits = [0.0] * depths
        self.tries = [0.0] * depths
        # of the rounds asked to draft so deep that drafted all depths before: how many drafted it
        self._made = [0.0] * depths
        self._asked = [0.0] * depths

    def observe(self, asked: int, drafted: int, accepted: int) -> None:
        """Count a round.

        Args:
            asked: draft tokens in a row that the drafter was allowed.
            drafted: how deep it drafted.
            accepted: how many of those in a row were accepted.
        """
        depths, discount = len(self.hits), self._discount
        for depth in range(min(accepted + 1, drafted, depths)):
            self.hits[depth] = discount * self.hits[depth] + (depth < accepted)
            self.tries[depth] = discount * self.tries[depth] + 1
        if drafted:
            prior = self.prior + LEARNING * ((accepted > 0) - self.prior)
            self.prior = min(max(prior, LOWEST), HIGHEST)
        for depth in range(min(drafted + 1, asked, depths)):
            self._made[depth] = discount * self._made[depth] + (depth < drafted)
            self._asked[depth] = discount * self._asked[depth] + 1

    def rest(self, rounds: int = 1) -> None:
        """Let rounds pass: a share of everything is forgotten in each."""
        kept = self._kept**rounds
        self.hits = [kept * hits for hits in self.hits]
        self.tries = [kept * tries for tries in self.tries]
        self._made = [kept * made for made in self._made]
        self._asked = [kept * asked for asked in self._asked]

    def rates(self, deviations: float = 0.0) -> list[float]:
        """Return α per depth: the posterior mean, so many standard deviations up, within 0 … 1."""
        found, mean = [], self.prior
        for hits, tries in zip(self.hits, self.tries, strict=True):
            # what is not known of a depth is as at the depth before
            mean = (mean * WEIGHT + hits) / (WEIGHT + tries)
            rate = mean
            if deviations:
                rate += deviations * sqrt(mean * (1 - mean) / (WEIGHT + tries + 1))
                rate = 0.0 if rate < 0 else 1.0 if rate > 1 else rate
            found.append(rate)
        return found

    def present(self) -> list[float]:
        """Return per depth how likely there is a draft token, given one at every depth before.

        A model always has one; a lookup often has none. Before anything was seen it is 1.
        """
        return [
            (WEIGHT + made) / (WEIGHT + asked)
            for made, asked in zip(self._made, self._asked, strict=True)
        ]
