"""Rounds as they went: how wide they were, what was accepted, and how long they took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..types import Round


@dataclass(frozen=True, slots=True)
class Traced:
    """What is kept of a round.

    Attributes:
        drafted: draft tokens.
        levels: how many nodes of each level had children: the widths of a draft model's forwards.
        accepted: draft tokens the target agreed with.
        seconds: from its beginning to that of the next round, everything in.
    """

    drafted: int
    levels: tuple[int, ...]
    accepted: int
    seconds: float

    def cut(self, most: int) -> Traced:
        """Return the round as if at most ``most`` tokens had been drafted in a row."""
        return replace(
            self,
            drafted=min(self.drafted, most),
            levels=self.levels[:most],
            accepted=min(self.accepted, most),
        )


def traced(rounds: Sequence[Round]) -> list[Traced]:
    """Return what is to be known of the rounds of one text; the prefill's is none of them."""
    turns = [turn for turn in rounds if turn.index]
    ends = [turn.times.started for turn in turns[1:]]
    ends += [turn.times.committed for turn in turns[-1:]]
    return [
        Traced(turn.drafted, _levels(turn), turn.kinds.count("accepted"), end - turn.times.started)
        for turn, end in zip(turns, ends, strict=True)
    ]


def _levels(turn: Round) -> tuple[int, ...]:
    if turn.tree.is_chain:
        return (1,) * turn.drafted
    parents = turn.tree.lists()[1]
    depths: list[int] = []
    for parent in parents:
        depths.append(0 if parent < 0 else depths[parent] + 1)
    growing = sorted({parent for parent in parents if parent >= 0})
    levels = [0] * max(depths)
    for node in growing:
        levels[depths[node]] += 1
    return tuple(levels)
