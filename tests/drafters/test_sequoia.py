"""Planned trees: the best for what was measured, kept between texts and runs."""

import heapq
import itertools
import json
import random

import pytest

import architectures
from outpace import Decoder
from outpace.drafters.pair import RANKS, Pair, Ranks
from outpace.drafters.sequoia import FIRST, _Table, best_tree, expected
from outpace.drafters.tree import TreeDrafter
from outpace.errors import InvalidArgument
from outpace.folders import CACHE_VARIABLE
from outpace.models import wrap
from outpace.models.attention import use_slot_attention
from outpace.models.tiny import tiny_model


@pytest.fixture(scope="module")
def pair():
    model = architectures.build("llama")
    small = architectures.blurred(model)
    use_slot_attention(small)
    return wrap(model, name="target"), wrap(small, name="small")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    return tmp_path


def all_trees(nodes, depth):
    """Every tree of so many nodes below the root: its parents, children of a node in order."""
    for parents in itertools.product(*(range(node) for node in range(1, nodes + 1))):
        depths = [0]
        for parent in parents:
            depths.append(depths[parent] + 1)
        if max(depths) <= depth:
            children = [[] for _ in depths]
            for node, parent in enumerate(parents, start=1):
                children[parent].append(node)
            yield tuple(map(tuple, children))


@pytest.mark.parametrize("seed", range(12))
def test_no_tree_is_better_than_the_plan(seed):
    generator = random.Random(seed)  # not in order: a later child may stand more often
    shares = [generator.random() / 3 for _ in range(6)]
    nodes, depth = generator.randint(1, 6), generator.randint(1, 4)
    planned = _Table(shares, nodes, depth).tree(nodes, depth)
    best = max(expected(tree, shares) for tree in all_trees(nodes, depth))
    assert expected(planned, shares) == pytest.approx(best)
    assert len(planned) <= nodes + 1


def test_with_falling_shares_the_plan_has_the_likeliest_paths():
    shares, nodes, depth = [0.5, 0.2, 0.1, 0.05], 31, 6
    heap, total = [(-shares[0], 1.0, 0, 1)], 0.0
    for _ in range(nodes):
        value, parent, rank, level = heapq.heappop(heap)
        total -= value
        if rank + 1 < len(shares):
            heapq.heappush(heap, (-parent * shares[rank + 1], parent, rank + 1, level))
        if level < depth:
            heapq.heappush(heap, (value * shares[0], -value, 0, level + 1))
    assert expected(_Table(shares, nodes, depth).tree(nodes, depth), shares) == pytest.approx(total)


def test_costs_decide_how_large_the_tree_is():
    shares = [0.6, 0.15, 0.08, 0.04]
    flat = {1: 10.0, 2: 10.0, 4: 10.0, 8: 10.0, 16: 10.0, 32: 10.0}
    steep = {width: 10.0 * width for width in flat}
    step = {**flat, 16: 30.0, 32: 30.0}
    free, dear = dict.fromkeys(flat, 0.01), dict.fromkeys(flat, 5.0)
    assert len(best_tree(shares, flat, free, 31, 6)) == 32
    assert len(best_tree(shares, steep, free, 31, 6)) == 2
    assert len(best_tree(shares, step, free, 31, 6)) == 8
    deep = best_tree(shares, flat, free, 31, 6)
    shallow = best_tree(shares, flat, dear, 31, 6)
    assert _depth(deep) == 6
    assert _depth(shallow) < 3
    assert max(map(len, shallow)) > 2  # broad is free where deep is dear


def test_where_nothing_stands_one_token_is_drafted():
    for shares in ([0.0, 0.0], [0.0, 0.02]):  # a first child that never stands is drafted too
        plan = best_tree(shares, {1: 1.0, 2: 9.0, 4: 30.0}, {1: 1.0}, 3, 2)
        assert len(plan) > 1


def test_the_cap_holds_while_it_learns(pair):
    target, small = pair
    decoder = Decoder(target, TreeDrafter(small, "sequoia(nodes=9, depth=4)"))
    for turn in decoder.stream(range(20), max_new_tokens=30, ignore_eos=True):
        assert turn.drafted <= 9


def test_one_drafter_plans_for_one_target(pair):
    target, small = pair
    drafter = TreeDrafter(small, "sequoia")
    Decoder(target, drafter)
    Decoder(target, drafter)
    with pytest.raises(InvalidArgument, match="make a TreeDrafter for each"):
        Decoder(small, drafter)


def test_a_short_context_can_be_timed():
    short = tiny_model(context_length=20)
    other = tiny_model(seed=1, context_length=4)
    assert set(Pair(short, other).drafting) == set(other.widths)


def _depth(tree):
    depths = [0] * len(tree)
    for node, children in enumerate(tree):
        for child in children:
            depths[child] = depths[node] + 1
    return max(depths)


def test_a_plan_is_made_followed_and_kept(pair, folder):
    target, small = pair
    drafter = TreeDrafter(small, "sequoia(nodes=15, depth=5)")
    decoder = Decoder(target, drafter)
    request = {"max_new_tokens": 160, "ignore_eos": True}
    out = decoder.generate(range(20), **request)
    assert out.tokens == Decoder(target).generate(range(20), **request).tokens
    (file,) = (folder / "pairs").iterdir()
    record = json.loads(file.read_text())
    tries, hits = record["ranks"]["deterministic"]
    assert tries[0] >= FIRST
    assert sum(hits) > 0
    assert len(tries) == RANKS

    plan = drafter._steering.shape_for("deterministic").template
    again = TreeDrafter(small, "sequoia(nodes=15, depth=5)")
    stream = Decoder(target, again).stream(range(20), max_new_tokens=40, ignore_eos=True)
    first = next(turn for turn in stream if turn.index == 1)
    planned = again._steering.shape_for("deterministic").template
    assert len(first.tree) == len(planned) <= 16
    assert _parents_by_level(first.tree.lists()[1]) == _parents_by_level(
        [-1, *(n for child in range(1, len(planned)) for n in range(len(plan)) if child in plan[n])]
    )
    # a reset forgets texts, not what the pair is worth
    again.reset()
    assert again._steering.shape_for("deterministic").template == planned


def _parents_by_level(parents):
    depths = [0]
    for parent in parents[1:]:
        depths.append(depths[parent] + 1)
    return [depths.count(level) for level in range(max(depths) + 1)]


def test_other_ways_of_drawing_have_plans_of_their_own(pair):
    target, small = pair
    drafter = TreeDrafter(small, "sequoia(nodes=7, depth=4)")
    decoder = Decoder.from_pretrained(target, drafter=drafter, verifier="sequoia")
    decoder.generate(range(20), max_new_tokens=120, ignore_eos=True, temperature=1.0)
    steering = drafter._steering
    assert set(drafter.shares) == {"without_replacement"}
    assert set(drafter.plans) == {"deterministic", "without_replacement"}  # the first beforehand
    assert steering._due["without_replacement"] > steering._due["deterministic"] == FIRST


@pytest.mark.parametrize(
    "content",
    ["", "{}", '{"ranks": 3}', "[]", "null", '{"ranks": {"coupled": [[1], [1]]}}'],
)
def test_a_broken_file_is_none(pair, folder, content):
    target, small = pair
    known = Pair(target, small)
    known.ranks["coupled"] = Ranks()
    known.save()
    assert Pair(target, small).ranks == known.ranks
    known.path.write_text(content)
    assert Pair(target, small).ranks == {}
    assert set(known.verifying) == {1, 2, 4, 8, 16, 32, 64}


def test_nowhere_to_write_is_no_error(pair, tmp_path, monkeypatch):
    target, small = pair
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(blocked))
    assert Pair(target, small).verifying


def test_other_weights_are_another_pair(pair):
    target, small = pair
    assert target.fingerprint != small.fingerprint
    assert target.fingerprint == wrap(target.model).fingerprint


def test_ranks_count_visited_nodes_only(pair):
    target, small = pair
    ranks, drafter = Ranks(), TreeDrafter(small, "fixed(depth=2, branch=2)")
    rounds = [
        turn
        for turn in Decoder(target, drafter).stream(range(20), max_new_tokens=60, ignore_eos=True)
        if turn.drafted
    ]
    for turn in rounds:
        ranks.add(turn)
    inner = sum(len(turn.verdict.path) >= 1 for turn in rounds if turn.tree.deepest() == 2)
    assert ranks.tries[0] == len(rounds) + inner
    assert sum(ranks.hits) == sum(len(turn.verdict.path) for turn in rounds)
    assert ranks.tries[2] == 0
