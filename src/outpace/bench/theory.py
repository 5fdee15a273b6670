"""Speed-ups predicted by formulas, to hold against those that were measured.

Three of them, for chains of K draft tokens, all relative to plain decoding:

- that of the reference, (1 + Kα) / (1 + Kρ), with α the acceptance rate and ρ the cost of a
  forward of the draft model over one of the target: verification is free of charge, and so is
  everything around the forwards;
- that of arXiv 2211.17192, (1 − α^(K+1)) / ((1 − α)(1 + Kρ)): draft tokens are accepted one like
  the other, independently;
- from parts: tokens a round from the acceptance at each depth; a draft, a forward over K + 1
  tokens and what is around them at what each was measured to take by itself; the first token by
  itself, since drafts do not speed it up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..lengths.costs import Costs


@dataclass(frozen=True, slots=True)
class Parts:
    """What a prediction is put together from. Times in seconds.

    Attributes:
        verifying: of a forward of the target, by width.
        drafting: of a draft, by its number of tokens; the draft model's first forward too.
        plain_round: of a round without a draft, as measured in plain decoding.
        plain_first: until the first token, in plain decoding.
        first: until the first token, with the drafter.
        tokens: new tokens of a text.
    """

    verifying: Mapping[int, float]
    drafting: Mapping[int, float]
    plain_round: float
    plain_first: float
    first: float
    tokens: float

    @property
    def cost_ratio(self) -> float:
        """ρ: a forward of the draft model over one of the target."""
        return self.drafting[min(self.drafting)] / self.verifying[min(self.verifying)]


def of_reference(alpha: float, length: int, cost_ratio: float) -> float:
    """Return (1 + Kα) / (1 + Kρ)."""
    return (1 + length * alpha) / (1 + length * cost_ratio)


def of_leviathan(alpha: float, length: int, cost_ratio: float) -> float:
    """Return (1 − α^(K+1)) / ((1 − α)(1 + Kρ)) (arXiv 2211.17192)."""
    tokens = length + 1 if alpha >= 1 else (1 - alpha ** (length + 1)) / (1 - alpha)
    return tokens / (1 + length * cost_ratio)


def tokens_a_round(per_depth: Sequence[float], length: int) -> float:
    """Return 1 + Σ Π α: how many tokens a round of ``length`` draft tokens writes."""
    total, reached = 1.0, 1.0
    for depth in range(length):
        reached *= per_depth[depth] if depth < len(per_depth) else 0.0
        total += reached
    return total


def of_parts(per_depth: Sequence[float], length: int, parts: Parts) -> float:
    """Return the speed-up over plain decoding, from parts that were measured apart."""
    costs = Costs(parts.verifying, parts.drafting)
    around = parts.plain_round - costs.verify(1)
    turn = costs.draft(length) + costs.verify(length + 1) + around
    later = parts.tokens - 1
    plain = parts.plain_first + later * parts.plain_round
    return plain / (parts.first + later / tokens_a_round(per_depth, length) * turn)
