"""Rounds of the loop as turns of a report."""

import json

import pytest

from outpace import Decoder
from outpace.bench import Models
from outpace.bench.document import Turn
from outpace.bench.page.timeline import timeline
from outpace.bench.rounds import as_turns


def test_rounds_become_turns(models: Models):
    decoder = Decoder.from_pretrained(models.target, drafter=models.drafter, draft_length=3)
    rounds = list(decoder.stream("the cat and the dog", max_new_tokens=20, ignore_eos=True))
    began = rounds[0].times.started - 0.5
    made = as_turns(rounds, began, lambda token: f"<{token}>")
    turns = [Turn(**fields) for fields in json.loads(json.dumps(made))]
    assert [Turn(**fields) for fields in made] == turns
    assert turns[0].times[0] == 0.5
    assert turns[0].nodes == [f"<{rounds[0].tree.lists()[0][0]}>"]
    for turn, one in zip(turns, rounds, strict=True):
        assert list(turn.times) == sorted(turn.times)
        assert turn.times[3] == pytest.approx(one.times.committed - began, abs=1e-6)
        assert (turn.path, turn.parents) == (one.verdict.path, one.tree.lists()[1])
        assert (tuple(turn.kinds), "".join(turn.pieces)) == (one.kinds, one.text)
    assert timeline(turns)
