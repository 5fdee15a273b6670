"""Token recycling: the matrix, the planned tree, and what is drafted."""

import pytest
import torch

from outpace import Decoder
from outpace.drafters.none import NoDrafter
from outpace.drafters.recycling import RATES, RecyclingDrafter, Successors, plan
from outpace.drafters.sequoia import _Table, expected
from outpace.errors import InvalidArgument
from outpace.models.tiny import tiny_model
from outpace.types import Budget, Context, Round, Times, TokenTree, Verdict

WIDE = Budget(63, 63)


def drafter(rates=(0.6, 0.3, 0.1), rows=None, keep=True, **settings) -> RecyclingDrafter:
    made = RecyclingDrafter(rates, keep=keep, **settings)
    made.attach(tiny_model())
    for token, best in (rows or {}).items():
        made.successors.learn([token], torch.tensor([best]))
    return made


def observed(made, tokens, parents, path, best, context=None):
    """Hand over a finished round; ``best`` has a row for each node."""
    best = torch.tensor(best)
    (key,) = made.wants
    rows = best if key.startswith("topk-all") else best[[0, *path]]
    made.observe(
        Context([0]) if context is None else context,
        Round(
            index=1,
            tree=TokenTree.of(tokens, parents),
            verdict=Verdict(path, [], []),
            tokens=(),
            kinds=(),
            pieces=(),
            times=Times(0, 0, 0, 0),
            extras={key: rows},
        ),
    )


# --- the matrix --------------------------------------------------------------------------------


def test_every_node_of_a_round_is_learnt_from():
    made = drafter()
    assert made.wants == {"topk-all:3"}
    observed(made, [1, 2, 3], [-1, 0, 0], [2], [[2, 3, 4], [5, 6, 7], [8, 9, 1]])
    assert made.successors.after([1, 2, 3, 4]) == [[2, 3, 4], [5, 6, 7], [8, 9, 1], []]
    observed(made, [2], [-1], [], [[7, 8, 9]])
    assert made.successors.after([2, 3]) == [[7, 8, 9], [8, 9, 1]]


def test_of_equal_tokens_the_last_on_the_accepted_path_counts():
    made = drafter()
    tokens, parents = [1, 5, 5, 1, 5], [-1, 0, 0, 1, 3]
    best = [[10, 11, 12], [20, 21, 22], [30, 31, 32], [40, 41, 42], [50, 51, 52]]
    observed(made, tokens, parents, [1, 3], best)
    assert made.successors.after([1, 5]) == [[40, 41, 42], [20, 21, 22]]
    observed(made, tokens, parents, [], best)  # rejected, all but the root: the last one
    assert made.successors.after([1, 5]) == [[10, 11, 12], [50, 51, 52]]


def test_or_from_the_accepted_nodes_alone():
    made = drafter(everywhere=False)
    assert made.wants == {"topk:3"}
    observed(made, [1, 2, 3], [-1, 0, 0], [2], [[2, 3, 4], [5, 6, 7], [8, 9, 1]])
    assert made.successors.after([1, 2, 3]) == [[2, 3, 4], [], [8, 9, 1]]


@pytest.mark.parametrize(
    ("vocabulary", "dtype", "size"),
    [(32_768, torch.int16, 2), (32_769, torch.int32, 4), (151_936, torch.int32, 4)],
)
def test_entries_are_as_small_as_the_vocabulary_allows(vocabulary, dtype, size):
    matrix = Successors(vocabulary, 8)
    assert matrix.dtype == dtype
    assert matrix.nbytes == vocabulary * 8 * size
    last = vocabulary - 1
    matrix.learn([last], torch.arange(last, last - 8, -1)[None])
    assert matrix.after([last, 0]) == [list(range(last, last - 8, -1)), []]


def test_memory_is_that_of_the_matrix_and_does_not_grow():
    target = tiny_model()
    for keep in (False, True):
        decoder = Decoder(target, RecyclingDrafter(keep=keep))
        for prompt in ([1, 2, 3], [4, 5]):
            stats = decoder.generate(prompt, max_new_tokens=40, ignore_eos=True).stats
            assert stats.store_bytes == target.vocabulary * len(RATES) * 2


def test_nothing_known_of_another_vocabulary_is_kept():
    made = drafter(rows={1: [2, 3, 4]})
    made.attach(tiny_model())
    assert made.successors.after([1]) == [[2, 3, 4]]  # the same one again: nothing is lost

    class Large:
        vocabulary = 100_000

    made.attach(Large())
    assert made.successors.after([1, 99_999]) == [[], []]
    made.successors.learn([1], torch.tensor([[99_999, 3, 4]]))
    made.attach(tiny_model())  # whose embeddings have no such row
    assert made.successors.after([1]) == [[]]


# --- the plan ----------------------------------------------------------------------------------


def test_the_plan_takes_the_likeliest_nodes():
    # products: 0 → 0.6, 00 → 0.36, 1 → 0.3, 000 → 0.216, 01 = 10 → 0.18
    rates = (0.6, 0.3, 0.1)
    assert plan(rates, 4, 9) == ((1, 2), (3,), (), (4,), ())
    # of equal ones the left one first
    assert plan(rates, 5, 9) == ((1, 2), (3, 4), (), (5,), (), ())
    assert plan(rates, 6, 9) == ((1, 2), (3, 4), (5,), (6,), (), (), ())
    assert plan(rates, 3, 1) == ((1, 2, 3), (), (), ())
    assert plan(rates, 0, 0) == plan(rates, 5, 0) == ((),)


@pytest.mark.parametrize("rates", [RATES, (0.9, 0.05), (0.3,) * 4, (1.0,)])
def test_no_tree_of_that_size_is_expected_to_do_better(rates):
    table = _Table(rates, 20, 6)
    for nodes, depth in ((1, 1), (7, 3), (20, 6)):
        best = expected(table.tree(nodes, depth), rates)
        assert expected(plan(rates, nodes, depth), rates) == pytest.approx(best)


def test_the_default_fills_a_forward():
    tree = plan(RATES, 63, 63)
    assert len(tree) == 64
    assert len(tree[0]) == len(RATES) == 8


# --- what is drafted ---------------------------------------------------------------------------


def test_the_tree_for_a_matrix():
    made = drafter(rows={1: [2, 3, 4], 2: [5, 6, 7], 3: [2, 8, 9], 5: [1, 2, 3]})
    tree = made.propose(Context([9, 1]), Budget(6, 6), None)
    #     1 ─┬─ 2 ─┬─ 5 ── 1
    #        │     └─ 6
    #        └─ 3 ─── 2
    assert tree.lists() == ([1, 2, 3, 5, 6, 2, 1], [-1, 0, 0, 1, 1, 2, 3])
    assert tree.draw == "deterministic"
    assert not tree.is_chain


def test_what_is_not_known_has_no_children():
    made = drafter(rows={1: [2, 3, 4]})
    assert made.propose(Context([1]), Budget(6, 6), None).lists() == ([1, 2, 3], [-1, 0, 0])
    assert made.propose(Context([7]), WIDE, None).lists() == ([7], [-1])
    assert len(made.propose(Context([1]), Budget(0, 0), None)) == 1


def test_a_loop_is_drafted_to_the_planned_depth():
    made = drafter((0.9,), rows={1: [2], 2: [1]})
    tree = made.propose(Context([1]), Budget.chain(5), None)
    assert tree.lists()[0] == [1, 2, 1, 2, 1, 2]
    assert tree.is_chain


class Counted(list):
    """A text that counts which of its tokens are looked at, and refuses to be read as a whole."""

    looked = 0

    def __getitem__(self, place):
        assert isinstance(place, int)
        self.looked += 1
        return super().__getitem__(place)

    def __iter__(self):
        raise AssertionError("the whole text was read")


def test_a_draft_costs_the_same_after_any_text(monkeypatch):
    made = drafter(RATES, rows={t: [(t * 7 + r) % 250 for r in range(8)] for t in range(250)})
    read = []
    after = Successors.after
    monkeypatch.setattr(
        Successors, "after", lambda self, tokens: read.append(len(tokens)) or after(self, tokens)
    )
    work = []
    for length in (10, 10_000):
        context = Context([t % 250 for t in range(length - 1)] + [9])
        context.tokens = Counted(context.tokens)
        made.start(context, resume=True)
        read.clear()
        tree = made.propose(context, WIDE, None)
        tokens, parents = tree.lists()
        observed(made, tokens, parents, [], [[t + 1] * 8 for t in tokens])
        work.append((context.tokens.looked, len(tree)))
        assert sum(read) == sum(1 for children in plan(RATES, 63, 63) if children)
        made.successors.learn(
            list(range(250)),
            torch.tensor([[(t * 7 + r) % 250 for r in range(8)] for t in range(250)]),
        )
    assert work == [(1, 64), (1, 64)]


def test_kept_or_forgotten_between_texts():
    for keep in (False, True):
        made, one, other = drafter(keep=keep), Context([1]), Context([1])
        for context in (one, other):
            made.start(context)
        observed(made, [1], [-1], [], [[2, 3, 4]], one)
        made.start(one, resume=True)
        assert len(made.propose(one, Budget(3, 1), None)) == 4
        made.start(other, resume=True)
        assert len(made.propose(other, Budget(3, 1), None)) == (4 if keep else 1)
        later = Context([1, 7, 1])  # goes on where the first one stopped
        made.start(later, resume=True)
        assert len(made.propose(later, Budget(3, 1), None)) == 4
        made.reset()
        assert len(made.propose(later, Budget(3, 1), None)) == 1


@pytest.mark.parametrize("rates", [(), (0.5, 0.6), (1.1,), (0.5, 0.0), (0.5, -0.1)])
def test_rates_out_of_range_are_named(rates):
    with pytest.raises(InvalidArgument, match=r"rates .* none higher than the one before"):
        RecyclingDrafter(rates)


# --- in the loop -------------------------------------------------------------------------------


def test_the_targets_best_come_from_every_node():
    target = tiny_model()
    made = RecyclingDrafter()
    drafted = 0
    for turn in Decoder(target, made).stream(range(10), max_new_tokens=40, ignore_eos=True):
        best = turn.extras["topk-all:8"]
        assert best.shape == (len(turn.tree), 8)
        kept = [0, *turn.verdict.path]
        # greedy: what was emitted is the target's best token at every place
        assert best[kept, 0].tolist()[: len(turn.tokens)] == list(turn.tokens)
        _, parents = turn.tree.lists()
        siblings = list(zip(parents, turn.tree.lists()[0], strict=True))
        assert len(set(siblings)) == len(siblings)
        drafted += turn.drafted
    assert drafted


def test_both_kinds_of_wants_agree_on_the_path():
    class Both(RecyclingDrafter):
        def __init__(self):
            super().__init__()
            self.wants = frozenset({"topk-all:8", "topk:3"})

    for turn in Decoder(tiny_model(), Both()).stream(range(10), max_new_tokens=30):
        kept = [0, *turn.verdict.path]
        assert torch.equal(turn.extras["topk:3"], turn.extras["topk-all:8"][kept, :3])


def test_a_want_that_nobody_has_is_named():
    class Greedy(NoDrafter):
        wants = frozenset({"topk-most:3"})

    with pytest.raises(InvalidArgument, match=r"'topk-most:3'.*'topk:K'.*'topk-all:K'"):
        Decoder(tiny_model(), Greedy())


def test_the_text_is_plain_decodings_under_sampling_with_penalties():
    target, made = tiny_model(), RecyclingDrafter(keep=True)
    plain, recycling = Decoder(target), Decoder(target, made)
    accepted = 0
    for seed in range(4):
        settings = {
            "temperature": 0.5,
            "top_p": 0.95,
            "repetition_penalty": 1.1,
            "no_repeat_ngram_size": 4,
            "seed": seed,
            "max_new_tokens": 60,
            "ignore_eos": True,
        }
        wanted = plain.generate([5, 6, 7, 5, 6], **settings)
        got = recycling.generate([5, 6, 7, 5, 6], **settings)
        assert got.tokens == wanted.tokens
        accepted += got.stats.accepted
    assert accepted
