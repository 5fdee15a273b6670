"""Shapes: who gets children, how many, and how history moves them."""

import pytest

from outpace.drafters.shape import Breadth
from outpace.drafters.shape_names import parse_shape
from outpace.drafters.steering import Steering
from outpace.types import Round, Times, TokenTree, Verdict


def went(accepted, depth):
    """A round whose tree, a chain, had so many of its levels accepted."""
    verdict = Verdict(list(range(1, accepted + 1)), [0] * (accepted + 1), [])
    tree = TokenTree.chain(0, [0] * depth)
    return Round(1, tree, verdict, (), (), (), Times(0, 0, 0, 0))


def steer(shape, rounds):
    """The shape after rounds of (accepted, depth)."""
    steering = Steering(parse_shape(shape))
    for accepted, depth in rounds:
        steering.observe(went(accepted, depth))
    return steering.shape_for("coupled")


@pytest.mark.parametrize(
    ("best", "children"), [(0.95, 1), (0.9, 1), (0.89, 2), (0.41, 2), (0.4, 3), (0.1, 3)]
)
def test_breadth_by_confidence(best, children):
    assert parse_shape("fixed + adaptive_breadth").children(best, 0) == children


def test_breadth_between_one_and_two():
    assert [Breadth(most=2).children(best) for best in (0.95, 0.5, 0.1)] == [1, 2, 2]


def test_paths_under_tau_get_no_children():
    shape = parse_shape("pruned(tau=0.1)")
    assert shape.grows(1, [0.05, 0.1, 0.6], [0, 0, 0]) == [2, 1]


def test_depth_by_the_probability_of_the_path():
    shape = parse_shape("dynamic_depth")
    paths, places = [0.05, 0.1, 0.3, 0.5, 0.8], [0] * 5
    assert shape.depth == 9
    assert shape.grows(4, paths, places) == [4, 3, 2, 1]  # under the base, stop decides
    assert shape.grows(5, paths, places) == [4, 3]  # from there on, deepen


def test_the_best_of_a_level_grow():
    shape = parse_shape("best_first(width=2)")
    assert shape.grows(1, [0.1, 0.4, 0.3], [0, 0, 0]) == [1, 2]


def test_history_waits_for_its_window():
    shape = "fixed(depth=4) + history(window=3)"
    assert steer(shape, [(4, 4)] * 2).depth == 4
    assert steer(shape, [(4, 4)] * 3).depth == 5
    assert steer(shape, [(0, 4)] * 3).depth == 3


def test_history_rests_within_its_band():
    shape = "fixed(depth=10) + history(window=1)"
    for accepted in (6, 7, 8):
        assert steer(shape, [(accepted, 10)]).depth == 10
    assert steer(shape, [(9, 10)]).depth == 11
    assert steer(shape, [(5, 10)]).depth == 9


def test_history_looks_back_on_its_window_alone():
    rounds = [(0, 4)] * 20 + [(4, 4)] * 10
    steering = Steering(parse_shape("fixed(depth=4) + history"))
    for accepted, depth in rounds:
        steering.observe(went(accepted, depth))
    low = steer("fixed(depth=4) + history", rounds[:20]).depth
    assert low == 1
    assert steering.shape_for("coupled").depth > low


def test_history_moves_depth_and_thresholds_within_bounds():
    all_of = "pruned(depth=4, tau=0.2) + history(window=1)"
    up, down = steer(all_of, [(4, 4)] * 30), steer(all_of, [(0, 4)] * 30)
    assert (up.depth, down.depth) == (8, 1)
    assert up.tau == pytest.approx(0.01)
    assert down.tau == pytest.approx(0.35)
    assert steer("fixed(depth=4, nodes=5) + history(window=1)", [(4, 4)] * 9).depth == 5
    assert steer("best_first(depth=4, nodes=6) + history(window=1)", [(4, 4)] * 9).depth == 6


def test_with_dynamic_depth_the_base_follows():
    shape = "dynamic_depth(base=3, most=5, stop=0.0) + history(window=1)"
    up, down = steer(shape, [(4, 4)] * 30), steer(shape, [(0, 4)] * 30)
    assert (up.depth, up.deepening.base) == (5, 5)
    assert (down.depth, down.deepening.base) == (5, 1)
    assert up.deepening.stop == 0.0  # off stays off
    assert up.deepening.deepen < 0.5 < down.deepening.deepen


def test_history_comes_back_to_the_shape_as_given():
    steering = Steering(parse_shape("pruned(tau=0.005) + history(window=1)"))
    given = steering.shape_for("coupled")
    for accepted in (4, 0):
        steering.observe(went(accepted, 4))
    assert steering.shape_for("coupled") == given
    steering.observe(went(4, 4))
    steering.reset()
    assert steering.shape_for("coupled") == given


def test_a_round_without_a_draft_says_nothing():
    steering = Steering(parse_shape("fixed(depth=4) + history(window=1)"))
    steering.observe(went(0, 0))
    assert steering.shape_for("coupled").depth == 4
