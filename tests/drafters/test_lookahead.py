"""Lookahead decoding: the window, the pool, and the one tree both are."""

import pytest
import torch

from outpace import Decoder
from outpace.drafters.lookahead import LookaheadDrafter, Pool
from outpace.errors import InvalidArgument
from outpace.models.tiny import tiny_model
from outpace.types import Budget, Context, Round, Times, TokenTree, Verdict

PROMPT = list(b"the cat and the dog and the cat")
WIDE = Budget(63, 63)


def paths(tree: TokenTree) -> set[tuple[int, ...]]:
    """Return the tokens on the way to each leaf, the root left out."""
    tokens, parents = tree.lists()
    ways: list[tuple[int, ...]] = []
    for token, parent in zip(tokens, parents, strict=True):
        ways.append(() if parent < 0 else (*ways[parent], token))
    return {way for node, way in enumerate(ways) if node not in parents}


def done(made, context, tree, best, tokens):
    """Hand over a round in which the target held ``best[path]`` for best at each node."""
    ids, parents = tree.lists()
    ways: list[tuple[int, ...]] = []
    for token, parent in zip(ids, parents, strict=True):
        ways.append(() if parent < 0 else (*ways[parent], token))
    rows = torch.tensor([[best.get(way, 0)] for way in ways])
    context.extend(tokens)
    turn = Round(
        index=1,
        tree=tree,
        verdict=Verdict([], list(tokens), []),
        tokens=tuple(tokens),
        kinds=(),
        pieces=(),
        times=Times(0, 0, 0, 0),
        extras={"topk-all:1": rows},
    )
    made.observe(context, turn)


# --- the pool ------------------------------------------------------------------------------------


def test_the_pool_keeps_the_latest_of_a_token_each_once():
    pool = Pool(3, guesses=2, capacity=10)
    for tail in ((1, 2), (3, 4), (1, 2), (5, 6)):
        pool.learn([9, *tail])
    assert list(pool.after(9)) == [(5, 6), (1, 2)]
    assert list(pool.after(8)) == []
    assert len(pool) == 2


def test_the_pool_forgets_the_tokens_unused_longest():
    pool = Pool(2, guesses=3, capacity=4)
    for first in (1, 2, 1, 3, 4, 5):
        pool.learn([first, 0])
    assert [token for token in range(6) if list(pool.after(token))] == [1, 3, 4, 5]
    for count in range(1000):
        pool.learn([count, count])
        assert len(pool) <= 4
    assert pool.nbytes < 4 * 1000


# --- the window ----------------------------------------------------------------------------------


def test_the_window_is_a_path_with_the_later_guesses_below_its_nodes():
    made, context = LookaheadDrafter(3, 4, 1, text=False), Context([7])
    made.start(context)
    tree = made.propose(context, WIDE, None)
    assert paths(tree) == {(7, 7)}  # all it knows is the prompt

    # first iteration: what the target holds for best below each of the three columns
    done(made, context, tree, {(): 10, (7,): 20, (7, 7): 30}, [10])
    tree = made.propose(context, WIDE, None)
    assert paths(tree) == {(10,), (7, 20), (7, 7, 30)}
    assert tree.lists()[0][0] == 10

    done(made, context, tree, {(10,): 11, (7, 20): 21, (7, 7, 30): 31}, [12])
    tree = made.propose(context, WIDE, None)
    assert paths(tree) == {(10, 11), (7, 20, 21), (7, 7, 30, 31)}

    # the third iteration fills it: three 4-grams for the pool, and the oldest row goes
    best = {(10, 11): 13, (7, 20, 21): 22, (7, 7, 30, 31): 32}
    done(made, context, tree, best, [7])
    tree = made.propose(context, WIDE, None)
    window = {(11, 13), (20, 21, 22), (20, 30, 31, 32)}
    assert paths(tree) == window | {(30, 31, 32)}  # of the 4-grams found, the latest after 7
    done(made, context, tree, {}, [12])
    assert (10, 11, 13) in paths(made.propose(context, WIDE, None))


def test_window_and_pool_share_their_nodes():
    made, context = LookaheadDrafter(1, 3, 3), Context([1, 2, 3, 1, 2, 4, 1])
    made.start(context)
    tree = made.propose(context, WIDE, None)
    assert paths(tree) == {(2, 3), (2, 4)}
    assert len(tree) == 4  # the 2 stands once
    done(made, context, tree, {(): 2}, [1])
    tree = made.propose(context, WIDE, None)  # the window's one guess is the pool's 2
    assert paths(tree) == {(2, 3), (2, 4)}
    tokens, parents = tree.lists()
    edges = list(zip(parents, tokens, strict=True))
    assert len(edges) == len(set(edges))


@pytest.mark.parametrize("nodes", range(12))
@pytest.mark.parametrize("depth", range(5))
def test_a_budget_that_has_no_room_for_the_window_is_the_pools(nodes, depth):
    made, context = LookaheadDrafter(3, 4, 2), Context([1, 2, 3, 4] * 5 + [1])
    made.start(context)
    for turn in range(4):
        tree = made.propose(context, Budget(nodes, depth), None)
        assert len(tree) - 1 <= nodes
        assert tree.deepest() <= depth
        if turn == 0 and min(nodes, depth) < 2:  # the window's first row takes two
            assert paths(tree) == {(2,)[: min(nodes, depth)]}
        done(made, context, tree, {}, [1])


def test_a_round_that_another_drafted_leaves_the_window_alone():
    made, context = LookaheadDrafter(2, 3, 1, text=False), Context([5, 6])
    made.start(context)
    before = made.propose(context, WIDE, None)
    done(made, context, TokenTree.chain(6, [9]), {(): 9, (9,): 9}, [9])
    after = made.propose(context, WIDE, None)
    assert paths(after) == paths(before)


def test_texts_have_nothing_of_each_other():
    made = LookaheadDrafter(2, 3, 2)
    one, other = Context([1, 2, 3] * 4), Context([51, 52, 53] * 4)
    for context in (one, other, one, other):
        made.start(context, resume=context is other)
        tree = made.propose(context, WIDE, None)
        known = {0, *context.tokens}  # 0 is what the target is made to hold for best
        assert set(tree.lists()[0]) <= known
        done(made, context, tree, dict.fromkeys(paths(tree), context.tokens[0]), context.tokens[:1])


def test_a_text_read_again_drafts_the_same():
    texts = [
        Decoder(tiny_model(), LookaheadDrafter()).generate(PROMPT, max_new_tokens=40)
        for _ in range(2)
    ]
    assert texts[0].stats.drafted == texts[1].stats.drafted
    assert texts[0].stats.rounds == texts[1].stats.rounds


# --- what it is for ------------------------------------------------------------------------------


def test_it_writes_more_than_a_token_a_forward_without_knowing_the_text():
    settings = {"max_new_tokens": 96, "ignore_eos": True}
    plain = Decoder(tiny_model()).generate([3], **settings)
    made = Decoder(tiny_model(), LookaheadDrafter(5, 4, 5, text=False)).generate([3], **settings)
    assert made.tokens == plain.tokens
    assert made.stats.mean_acceptance_length > 1.2  # the tiny model ends up in a loop
    assert made.stats.rounds < plain.stats.rounds


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"window": 0}, r"a window of 0 columns: give 1 or more"),
        ({"ngram": 1}, r"n-grams of 1 tokens: give 2 or more"),
        ({"guesses": 0}, r"0 guesses: give 1 or more"),
        ({"capacity": 0}, r"room for 0 n-grams: give 1 or more"),
        ({"window": 15, "ngram": 5, "guesses": 15}, r"are 119 draft tokens: .* may be 64 at most"),
    ],
)
def test_settings_out_of_range(settings, line):
    with pytest.raises(InvalidArgument, match=line):
        LookaheadDrafter(**settings)


@pytest.mark.parametrize("length", [2, 3, 5, 8])
def test_with_a_smaller_budget_it_looks_less_far_but_goes_on_looking(length):
    made, context = LookaheadDrafter(3, 4, 2, text=False), Context([5, 6])
    made.start(context)
    for turn in range(12):
        tree = made.propose(context, Budget.chain(length), None)
        assert len(tree) - 1 <= length
        best = dict.fromkeys([(), *paths(tree)], 10 + turn)
        done(made, context, tree, best, [10 + turn])
    assert len(made._texts[context].pool) > 0
