"""Timelines and trees of a page: to scale, complete, and cut where they would be too long."""

import re
from itertools import pairwise

import pytest
import sample_page
from sample_page import KINDS

from outpace.bench.document import Turn
from outpace.bench.page.stages import stages, totals
from outpace.bench.page.timeline import BANDS, ROUNDS, WIDTH, bands_needed, scaled, timeline
from outpace.bench.page.trees import SHOWN, drawing, trees


def test_the_time_is_all_there():
    turns = sample_page.turns(9)
    found = stages(turns)
    assert found[0].start == 0
    assert all(one.end == two.start for one, two in pairwise(found))
    assert found[-1].end == turns[-1].times[3]
    assert sum(totals(found).values()) == pytest.approx(turns[-1].times[3])
    assert totals(found)["prefill"] == pytest.approx(0.039)
    assert totals(stages([])) == {}


@pytest.mark.parametrize("count", [0, 1, 9, 90])
def test_the_timeline_is_to_scale(count):
    turns = sample_page.turns(count)
    made, scale = timeline(turns), scaled(turns)
    drawn: dict[str, float] = {}
    for name, length in re.findall(
        r'<rect class="(\w+)" x="[^"]*" y="[^"]*" width="([^"]*)"', made
    ):
        drawn[name] = drawn.get(name, 0) + float(length) / WIDTH * scale.band
    assert drawn == pytest.approx(totals(stages(turns)), rel=0.01, abs=1e-4)
    boxes = [kind for kind in KINDS for _ in range(made.count(f'class="box {kind}"'))]
    assert sorted(boxes) == sorted(kind for turn in turns for kind in turn.kinds)
    for x, length in re.findall(r'<rect [^>]*?x="([^"]*)"[^>]*?width="([^"]*)"', made):
        assert float(x) >= 0
        assert float(x) + float(length) <= WIDTH + 0.02


def test_a_long_text_is_cut_and_it_says_so():
    turns = sample_page.turns(900)
    made, scale = timeline(turns), scaled(turns)
    count = bands_needed(turns, scale)
    assert made.count("<svg") == count <= BANDS
    shown = int(re.search(r"and 900 rounds; the first (\d+) are shown", made)[1])
    assert ROUNDS / 2 < shown < 900
    assert sum(turn.times[3] <= count * scale.band for turn in turns[1:]) == shown


def test_a_long_prefill_is_cut_and_it_says_so():
    made, scale = timeline(sample_page.wide()), scaled(sample_page.wide())
    assert 8 < scale.origin < 9
    assert "of the prefill are cut off" in made
    assert made.count("<svg") <= 2
    assert "cut off" not in timeline(sample_page.turns(9))


def test_trees_that_branch_come_first():
    made = trees(sample_page.turns(200))
    assert made.count("<svg") == SHOWN
    assert re.findall(r"<b>Round (\d+)</b>", made) == ["1", "5", "9", "13", "17", "21"]
    assert "the first 6 of 50 trees" in made
    assert "1 drafted chain." in trees(sample_page.wide())
    assert trees(sample_page.turns(0)) == ""


def test_a_tree_and_the_way_through_it():
    turn = Turn(
        [0, 1, 2, 3],
        [".", " a", " b", " c", " d"],
        [-1, 0, 0, 2, 2],
        [2, 4],
        [" b", " d", " e"],
        ["accepted", "accepted", "bonus"],
    )
    made = drawing(3, turn)
    assert made.count('class="node accepted"') == made.count('class="edge accepted"') == 2
    assert made.count('class="node drafted"') == 2
    assert made.count('class="node bonus"') == 1
    assert (
        'aria-label="Round 3: 4 tokens drafted after “.”, accepted “ b d”, then bonus “ e”"' in made
    )
    rows = dict(re.findall(r'<title> (\w) \(\w+\)</title><rect x="[^"]*" y="([^"]*)"', made))
    assert rows["b"] == rows["d"] == rows["e"] == "3.0"
    assert len({rows["a"], rows["b"], rows["c"]}) == 3


def test_a_text_that_ended_inside_a_draft():
    turn = Turn([0, 1, 2, 3], [".", "a", "b"], [-1, 0, 1], [1, 2], ["a", ""], ["accepted"] * 2)
    assert "then" not in drawing(1, turn)
