"""What rounds should take: prices of their parts, measured apart, put together.

A round that drafts K tokens takes K forwards of the draft model, one of the target over K + 1
tokens, which is a step of a staircase and no line in K, and what is around them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..drafters.sequoia import Template, expected, level_widths
from ..lengths.costs import Costs
from .trace import Traced

Staircase = Mapping[int, float]
"""Seconds of a forward by static width."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Seconds of the parts of a drafter's rounds on its target.

    Attributes:
        verifying: a forward of the target by static width.
        drafting: a forward of the draft model; None where no model drafts by itself.
        overhead: of a plain round beyond its forward.
        step: of each forward of a draft beyond the forward itself: choosing the token, its share of
            a verdict over more nodes; without a draft model, of the whole draft.
        asked: of a round in which nothing was found to draft, beyond a plain one.
        feeding: of each token the draft model has not seen, beyond the usual one.
    """

    verifying: Staircase
    drafting: Staircase | None = None
    overhead: float = 0.0
    step: float = 0.0
    asked: float = 0.0
    feeding: float = 0.0

    @classmethod
    def of(
        cls,
        verifying: Staircase,
        drafting: Staircase | None,
        plain: Sequence[Traced],
        drafted: Sequence[Traced],
        feeding: float = 0.0,
    ) -> Prices:
        """Return prices from staircases and from what rounds took in the loop.

        Args:
            verifying: of the target.
            drafting: of the draft model, if there is one.
            plain: rounds without a drafter.
            drafted: rounds with it.
            feeding: of each token the draft model has not seen.
        """
        overhead = _undisturbed([turn.seconds for turn in plain]) - verifying[1]
        bare = cls(verifying, drafting, max(0.0, overhead))
        beyond = [(turn, turn.seconds - bare.round(turn)) for turn in drafted]
        steps = [more / bare.steps(turn) for turn, more in beyond if turn.drafted]
        asked = [more for turn, more in beyond if not turn.drafted]
        return cls(
            verifying,
            drafting,
            bare.overhead,
            max(0.0, _undisturbed(steps)),
            max(0.0, _undisturbed(asked)),
            feeding,
        )

    @property
    def plain(self) -> float:
        """Seconds of a plain round."""
        return self.verifying[1] + self.overhead

    def steps(self, turn: Traced) -> int:
        """Return how many steps a draft was made in: the levels of its tree, or one."""
        return len(turn.levels) if self.drafting is not None else 1

    def round(self, turn: Traced) -> float:
        """Return the seconds of a round like this one."""
        draft = self.draft(turn) if turn.drafted else self.asked
        return draft + Costs(self.verifying).verify(turn.drafted + 1) + self.overhead

    def draft(self, turn: Traced) -> float:
        """Return the seconds of a draft like that of this round."""
        if self.drafting is None:
            return self.step
        first = self.drafting[2] - self.drafting[1] if turn.again else 0.0
        costs = Costs(self.drafting)
        return first + sum(costs.verify(width) + self.step for width in turn.levels)

    def costs(self) -> Costs:
        """Return costs by the number of draft tokens in a row, as the gate takes them."""
        table = {0: self.asked}
        table |= {length: self.draft(Traced.chain(length, 0)) for length in (1, 2)}
        return Costs(dict(self.verifying), table, self.feeding, self.overhead)

    def costs_of(self, turns: Sequence[Traced]) -> Costs:
        """Return costs where a drafter decides by itself how much to draft, as in these rounds."""
        drafts = [turn for turn in turns if turn.drafted]
        if not drafts:
            return self.costs()
        nodes = max(1, round(sum(turn.drafted for turn in drafts) / len(drafts)))
        seconds = sum(map(self.draft, drafts)) / len(drafts)
        return Costs(dict(self.verifying), {0: self.asked, nodes: seconds}, 0.0, self.overhead)

    def seconds(self, turns: Sequence[Traced]) -> float:
        """Return the seconds of these rounds."""
        return sum(map(self.round, turns))


def plan_speed(prices: Prices, plan: Template, shares: Sequence[float]) -> float:
    """Return the tokens a second of one planned tree (arXiv 2402.12374).

    Args:
        prices: of its rounds.
        plan: the children of each node.
        shares: how often the child of each rank is accepted.
    """
    turn = Traced(len(plan) - 1, tuple(level_widths(plan)), 0)
    return (1 + expected(plan, shares)) / prices.round(turn)


def _undisturbed(seconds: Sequence[float]) -> float:
    """Return the lowest decile: what it takes where nothing else keeps the machine busy."""
    return sorted(seconds)[len(seconds) // 10] if seconds else 0.0
