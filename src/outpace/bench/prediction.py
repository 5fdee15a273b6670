"""What a drafter should bring, worked out from costs and acceptance before it is measured.

A round that drafts K tokens writes τ(K) = 1 + Σ_{i≤K} Π_{j≤i} α_j of them, where α_j is the share
accepted at depth j of those that were tried there (arXiv 2211.17192 has one α for all depths). What
it costs is no line in K: the target's forward over K + 1 tokens is a step of a staircase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ..drafters.sequoia import Template, expected, level_widths
from ..lengths.costs import Costs
from ..models.language_model import width_for
from .trace import Traced

Staircase = Mapping[int, float]
"""Seconds of a forward by static width."""
DRAFTS = 16
"""Lengths up to this one have a cost of their own in what :meth:`Prices.costs` returns."""


def accepted_law(acceptance: Sequence[float], length: int) -> list[float]:
    """Return how probable 0, 1 … ``length`` accepted draft tokens are.

    Args:
        acceptance: α by depth; 0 beyond.
        length: draft tokens in a row.
    """
    law, reached = [], 1.0
    for depth in range(length):
        share = acceptance[depth] if depth < len(acceptance) else 0.0
        law.append(reached * (1 - share))
        reached *= share
    return [*law, reached]


def round_tokens(acceptance: Sequence[float], length: int) -> float:
    """Return τ, the tokens that a round of ``length`` draft tokens writes on average."""
    return 1 + sum(n * share for n, share in enumerate(accepted_law(acceptance, length)))


def chain_seconds(costs: Costs, acceptance: Sequence[float], length: int, tokens: int) -> float:
    """Return the seconds in which rounds of ``length`` draft tokens write ``tokens`` tokens.

    The last rounds are as short as in the loop, which drafts no more than is left to write.

    Args:
        costs: of the parts of a round.
        acceptance: α by depth.
        length: draft tokens a round; 0 is plain decoding.
        tokens: to write, the first one of the text not counted: the prefill writes it.
    """
    laws = [accepted_law(acceptance, short) for short in range(length + 1)]
    rounds = [costs.round(short) for short in range(length + 1)]
    seconds = [0.0]
    for left in range(1, tokens + 1):
        short = min(length, left - 1)
        later = sum(share * seconds[left - 1 - n] for n, share in enumerate(laws[short]))
        seconds.append(rounds[short] + later)
    return seconds[tokens]


@dataclass(frozen=True, slots=True)
class Prices:
    """Seconds of the parts of a drafter's rounds on its target.

    Attributes:
        verifying: a forward of the target by static width.
        drafting: a forward of the draft model; None where there is no model.
        overhead: of a plain round beyond its forward.
        step: of each forward of a draft beyond the forward itself: choosing the token, its share of
            a verdict over more nodes; without a draft model, of the whole draft.
        asked: of a round in which nothing was found to draft, beyond a plain one.
    """

    verifying: Staircase
    drafting: Staircase | None
    overhead: float
    step: float = 0.0
    asked: float = 0.0

    @classmethod
    def of(
        cls,
        verifying: Staircase,
        drafting: Staircase | None,
        plain: Sequence[Traced],
        drafted: Sequence[Traced],
    ) -> Prices:
        """Return prices from staircases and from what rounds took in the loop.

        Args:
            verifying: of the target.
            drafting: of the draft model, if there is one.
            plain: rounds without a drafter.
            drafted: rounds with it.
        """
        overhead = max(0.0, median(turn.seconds for turn in plain) - verifying[1])
        bare = cls(verifying, drafting, overhead)
        beyond = [(turn, turn.seconds - bare.round(turn)) for turn in drafted]
        steps = [more / bare.steps(turn) for turn, more in beyond if turn.drafted]
        asked = [more for turn, more in beyond if not turn.drafted]
        return cls(
            verifying,
            drafting,
            overhead,
            median(steps) if steps else 0.0,
            max(0.0, median(asked)) if asked else 0.0,
        )

    def steps(self, turn: Traced) -> int:
        """Return how many steps a draft was made in: the levels of its tree, or one."""
        return len(turn.levels) if self.drafting is not None else 1

    def round(self, turn: Traced) -> float:
        """Return the seconds of a round like this one."""
        seconds = self.verifying[width_for(turn.drafted + 1)] + self.overhead
        if not turn.drafted:
            return seconds + self.asked
        return seconds + self.draft(turn.levels)

    def draft(self, levels: Sequence[int]) -> float:
        """Return the seconds of a draft whose levels have so many nodes with children."""
        if self.drafting is None:
            return self.step
        return sum(self.drafting[width_for(width)] + self.step for width in levels)

    def costs(self, acceptance: Sequence[float] = ()) -> Costs:
        """Return costs by the number of draft tokens in a row.

        After a wholly accepted draft the drafter is fed two tokens instead of one, since it never
        saw its own last one: its first forward is then one step of its staircase up.

        Args:
            acceptance: α by depth, to say how often that is.
        """
        table = {0: self.asked}
        for length in range(1, DRAFTS + 1):
            table[length] = max(0.0, self.draft([1] * length))
            if self.drafting is not None:
                again = accepted_law(acceptance, length)[-1]
                table[length] += again * max(0.0, self.drafting[2] - self.drafting[1])
        unseen = 0.0
        if self.drafting is not None:
            widest = max(self.drafting)
            unseen = max(0.0, self.drafting[widest] - self.drafting[1]) / (widest - 1)
        return Costs(dict(self.verifying), table, unseen, self.overhead)

    def tree_costs(self, nodes: int, seconds: float) -> Costs:
        """Return costs where a draft has ``nodes`` tokens and takes ``seconds``."""
        return Costs(
            dict(self.verifying), {0: self.asked, nodes: max(0.0, seconds)}, 0.0, self.overhead
        )


def plan_speed(prices: Prices, plan: Template, shares: Sequence[float]) -> float:
    """Return the tokens a second of one planned tree (arXiv 2402.12374).

    Args:
        prices: of its rounds.
        plan: the children of each node.
        shares: how often the child of each rank is accepted.
    """
    turn = Traced(len(plan) - 1, tuple(level_widths(plan)), 0, 0.0)
    return (1 + expected(plan, shares)) / prices.round(turn)


def traced_speed(prices: Prices, turns: Sequence[Traced], most: int | None = None) -> float:
    """Return the tokens a second of rounds like those that were recorded.

    Args:
        prices: of the rounds.
        turns: the record.
        most: draft tokens a round at most: chains are cut there, trees are not.
    """
    cut = [turn if most is None else turn.cut(most) for turn in turns]
    return sum(1 + turn.accepted for turn in cut) / sum(map(prices.round, cut))
