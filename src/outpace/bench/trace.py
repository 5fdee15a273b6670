"""Rounds as they went: how wide they were, what was accepted, how long they took; and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..types import Round


@dataclass(frozen=True, slots=True)
class Traced:
    """What is kept of a round.

    Attributes:
        drafted: draft tokens.
        levels: how many nodes of each level had children: the widths of a draft model's forwards.
        accepted: draft tokens the target agreed with.
        again: whether the round before accepted a draft to its end, whose last token the draft
            model never saw: it is fed two tokens, not one.
        seconds: from its beginning to that of the next round, everything in.
    """

    drafted: int
    levels: tuple[int, ...]
    accepted: int
    again: bool = False
    seconds: float = 0.0

    @classmethod
    def chain(cls, drafted: int, accepted: int, *, again: bool = False) -> Traced:
        """Return a round of ``drafted`` tokens in a row."""
        return cls(drafted, (1,) * drafted, accepted, again)


def traced(rounds: Sequence[Round]) -> list[Traced]:
    """Return what is to be known of the rounds of one text; the prefill's is none of them."""
    turns = [turn for turn in rounds if turn.index]
    ends = [turn.times.started for turn in turns[1:]]
    ends += [turn.times.committed for turn in turns[-1:]]
    found, again = [], False
    for turn, end in zip(turns, ends, strict=True):
        accepted, seconds = turn.kinds.count("accepted"), end - turn.times.started
        found.append(Traced(turn.drafted, _levels(turn), accepted, again, seconds))
        path = turn.verdict.path
        again = bool(path) and path[-1] not in turn.tree.lists()[1]
    return found


def replayed(turns: Sequence[Traced], longest: int, length: int) -> list[Traced]:
    """Return the rounds of a text with drafts of another length, from those with the longest.

    What a drafter drafts after a text does not depend on where its round began, so whether the
    target agrees there is known of every token, but for those it added after a whole draft: there
    both are taken to agree, as they did on all tokens before. Working with the shares accepted at
    each depth instead would take each depth for independent of where the rounds begin, and long
    rounds begin less often where a text is easy.

    Args:
        turns: chains, of one text.
        longest: draft tokens that these rounds could have.
        length: draft tokens a round at most; 0 is plain decoding.
    """
    agrees: list[bool] = []
    drafts: list[bool] = []  # whether there was anything to draft
    for turn in turns:
        rejected, ended = turn.accepted < turn.drafted, turn.drafted < longest
        agrees += [True] * turn.accepted + [not rejected]
        drafts += [True] * turn.accepted + [rejected or not ended]
    found, place, again = [], 0, False
    while place < len(agrees):
        most = min(length, len(agrees) - place - 1)
        accepted = 0
        while accepted < most and agrees[place + accepted] and drafts[place + accepted]:
            accepted += 1
        drafted = most if drafts[place + accepted] else accepted
        found.append(Traced.chain(drafted, accepted, again=again))
        again = 0 < drafted == accepted
        place += accepted + 1
    return found


def _levels(turn: Round) -> tuple[int, ...]:
    if turn.tree.is_chain:
        return (1,) * turn.drafted
    parents = turn.tree.lists()[1]
    depths: list[int] = []
    for parent in parents:
        depths.append(0 if parent < 0 else depths[parent] + 1)
    levels = [0] * max(depths)
    for node in {parent for parent in parents if parent >= 0}:
        levels[depths[node]] += 1
    return tuple(levels)
