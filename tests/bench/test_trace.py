"""Rounds recorded and replayed at other lengths."""

from itertools import pairwise

import pytest

from outpace import Decoder
from outpace.bench import Models
from outpace.bench.trace import Traced, replayed, traced
from outpace.drafters.model import ModelDrafter
from outpace.drafters.tree import TreeDrafter
from outpace.lengths.fixed import FixedLength

TEXT = "the cat and the dog and the cat and"


def rounds(models: Models, length: int) -> list[Traced]:
    assert models.drafter is not None
    decoder = Decoder(models.target, ModelDrafter(models.drafter), lengths=FixedLength(length))
    return traced(list(decoder.stream(TEXT, max_new_tokens=48, ignore_eos=True)))


def bare(turns: list[Traced]) -> list[tuple[int, int, bool]]:
    return [(turn.drafted, turn.accepted, turn.again) for turn in turns]


def test_what_is_recorded(models: Models) -> None:
    turns = rounds(models, 3)
    assert sum(1 + turn.accepted for turn in turns) in {47, 48}  # the last may lack its own token
    assert all(turn.levels == (1,) * turn.drafted for turn in turns)
    assert all(turn.seconds > 0 for turn in turns)
    assert {turn.accepted for turn in turns} > {0}
    for before, turn in pairwise(turns):
        assert turn.again == (0 < before.drafted == before.accepted)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8])
def test_replayed_rounds_are_those_of_the_loop(models: Models, length: int) -> None:
    longest = rounds(models, 8)
    again = replayed(longest, 8, length)
    real = rounds(models, length)
    # where a whole draft was accepted, what comes next is not known for sure
    assert abs(len(again) - len(real)) <= 1
    if length == 8:
        assert bare(again) == bare(longest)


def test_replay_is_no_cut(models: Models) -> None:
    """The negative control: rounds cut to two tokens write fewer than rounds of two do."""
    longest = rounds(models, 8)
    cut = sum(1 + min(turn.accepted, 2) for turn in longest)
    assert cut < sum(1 + turn.accepted for turn in replayed(longest, 8, 2))


def test_plain_rounds() -> None:
    turns = [Traced.chain(4, 2), Traced.chain(4, 0)]
    assert bare(replayed(turns, 4, 0)) == [(0, 0, False)] * 4


def test_a_draft_that_ended_early_ends_there_again() -> None:
    turns = [Traced.chain(2, 2), Traced.chain(0, 0), Traced.chain(4, 1), Traced.chain(4, 4)]
    assert bare(replayed(turns, 4, 4)) == [
        (2, 2, False),
        (0, 0, True),
        (4, 1, False),
        (4, 4, False),
    ]
    assert [turn.drafted for turn in replayed(turns, 4, 1)] == [1, 0, 0, 1, 1, 1, 0]


def test_levels_of_a_tree(models: Models) -> None:
    assert models.drafter is not None
    drafter = TreeDrafter(models.drafter, "fixed(depth=2, branch=2)")
    decoder = Decoder(models.target, drafter, lengths=FixedLength(6, 6))
    turns = traced(list(decoder.stream(TEXT, max_new_tokens=16, ignore_eos=True)))
    assert (turns[0].drafted, turns[0].levels) == (6, (1, 2))
