"""The n-gram store and its drafter."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from outpace import Decoder
from outpace.drafters.ngram import _FILE, MOST, NgramDrafter, NgramStore
from outpace.drafters.suffix_store import SuffixStore
from outpace.errors import InvalidArgument, VocabularyMismatch
from outpace.models.tiny import tiny_model
from outpace.types import Budget, Context, Round, Times, TokenTree, Verdict


def store(order=3, multilevel=True, capacity=1000) -> NgramStore:
    return NgramStore(order, multilevel=multilevel, capacity=capacity)


def test_the_longest_context_counts_first_then_shorter_ones():
    counts = store(4)
    counts.learn([1, 2, 3], [9])
    counts.learn([5, 5, 3], [8])
    counts.learn([6, 6, 3], [8])
    assert counts.next([1, 2, 3]) == 9
    assert counts.next([0, 2, 3]) == 9
    assert counts.next([0, 0, 3]) == 8  # one-token contexts are there
    assert counts.next([3]) == 8
    assert counts.next([4]) is None
    assert counts.next([]) is None


def test_one_level_knows_its_own_length_only():
    counts = store(3, multilevel=False)
    counts.learn([1, 2], [9])
    assert counts.next([1, 2]) == 9
    assert counts.next([0, 2]) is None
    counts.learn([2], [9])
    assert counts.next([2]) is None


def test_the_smallest_order_learns():
    counts = store(2)
    counts.learn([1], [2])
    assert counts.next([0, 1]) == 2


def test_the_highest_count_wins_and_the_earliest_of_equals():
    counts = store(2)
    counts.learn([1], [5, 6, 7])
    assert counts.next([1]) == 5
    counts.learn([1], [7])
    assert counts.next([1]) == 7


def test_memory_is_bounded_and_the_unused_goes_first():
    counts = store(2, capacity=3)
    for context in (1, 2, 3):
        counts.learn([context], [9])
    assert counts.next([1]) == 9  # used: now the youngest
    counts.learn([4], [9])
    assert len(counts) == 3
    assert counts.next([2]) is None
    assert counts.next([1]) == 9
    counts.learn([5], range(50))
    assert len(counts) <= 3


def test_saved_and_loaded(tmp_path):
    one, two = NgramDrafter(3, keep=True), NgramDrafter(3)
    one.start(Context([1, 2, 3, 1, 2, 4, 1, 2, 4]))
    one.save(tmp_path / "deep" / "store.safetensors")
    two.load(tmp_path / "deep" / "store.safetensors")
    assert two.keep
    assert len(one.store) == len(two.store)
    for before in ([1, 2], [2], [3, 1], [4], [9]):
        assert one.store.next(before) == two.store.next(before)
    with pytest.raises(InvalidArgument, match="order 3, this store order 4"):
        NgramDrafter(4).load(tmp_path / "deep" / "store.safetensors")
    (tmp_path / "noise").write_text("no store")
    for name in ("noise", "missing"):
        with pytest.raises(InvalidArgument, match="not a saved n-gram store"):
            two.load(tmp_path / name)
    small = NgramDrafter(3, capacity=2)
    small.load(tmp_path / "deep" / "store.safetensors")
    assert len(small.store) <= 2


def test_what_is_not_kept_is_not_saved(tmp_path):
    with pytest.raises(InvalidArgument, match=r"nothing is kept to save in .*store: make"):
        NgramDrafter().save(tmp_path / "store")


def test_foreign_and_damaged_files_are_refused_in_one_line(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    kept = NgramDrafter(3, keep=True)
    kept.start(Context([1, 2, 3, 1, 2, 4]))
    kept.save(good)
    table, known = load_file(good)["counts"], dict(kept.store._counts)
    content = good.read_bytes()

    def refused(words):
        for load in (kept.load, kept.store.load):
            with pytest.raises(InvalidArgument, match=words) as caught:
                load(bad)
            assert "\n" not in str(caught.value)
            assert str(bad) in str(caught.value)
            assert kept.store._counts == known  # nothing is lost

    for cut in (b"", b"no store", content[:-5], content[:40]):
        bad.write_bytes(cut)
        refused("not a saved n-gram store")
    flipped = bytearray(content)
    flipped[-8] ^= 4
    bad.write_bytes(flipped)
    refused("a damaged n-gram store")
    SuffixStore().save(bad)
    refused("not a saved n-gram store")
    save_file({"counts": table}, bad)
    refused("not a saved n-gram store")
    save_file({"counts": table}, bad, {"outpace": "ngram-0"})
    refused("version '0', this version of the n-gram store is 1")
    wrong = [
        table.float(),
        table.int(),
        table[:, 1:],
        table[0],
        torch.cat([table, table[:1]]),  # a count twice
        torch.tensor([[-1, 2, 3, 1]]),  # the padding comes first
        torch.tensor([[-1, -1, 3, 1]]),
        torch.tensor([[1, -2, 3, 1]]),
        torch.tensor([[1, 2, -1, 1]]),
        torch.tensor([[1, 2, 3, 0]]),
        torch.tensor([[1, 2, 2**31, 1]]),
        torch.tensor([[1, 2, token, 1] for token in range(MOST + 1)]),
    ]
    for counts in wrong:
        _FILE.save(bad, {"counts": counts.contiguous()}, {"order": 3})
        refused("a damaged n-gram store")
    for order in ({}, {"order": 1}):
        _FILE.save(bad, {"counts": table}, order)
        refused("a damaged n-gram store")
    missing = tmp_path / "missing"
    for name in (missing, tmp_path, "", "a\0b"):
        with pytest.raises(InvalidArgument, match="not a saved n-gram store"):
            kept.load(name)
    with pytest.raises(InvalidArgument, match="give a file that can be written"):
        kept.save(good / "below")
    assert sorted(tmp_path.iterdir()) == [bad, good]


def test_a_store_of_another_vocabulary_is_refused(tmp_path):
    target = tiny_model()
    large = NgramDrafter(2, keep=True)
    large.start(Context([1, target.vocabulary]))
    large.save(tmp_path / "large")
    with pytest.raises(VocabularyMismatch, match=r"the n-gram store holds token .* knows"):
        Decoder(target, large)
    drafter = NgramDrafter(2)
    Decoder(target, drafter)
    with pytest.raises(VocabularyMismatch, match="give a store of texts in the target's"):
        drafter.load(tmp_path / "large")
    assert not drafter.keep
    assert len(drafter.store) == 0


def test_an_empty_store_is_saved_too(tmp_path):
    NgramDrafter(keep=True).save(tmp_path / "empty")
    drafter = NgramDrafter()
    drafter.load(tmp_path / "empty")
    assert len(drafter.store) == 0


def test_drafting_stops_at_an_unknown_context():
    drafter = NgramDrafter(3, keep=True)
    context = Context([1, 2, 3, 4, 1, 2])
    drafter.start(context)
    tree = drafter.propose(context, Budget.chain(5), None)
    assert tree.lists()[0] == [2, 3, 4, 1, 2, 3]
    assert len(drafter.propose(Context([1, 9]), Budget.chain(5), None)) == 1
    assert len(drafter.propose(context, Budget.chain(0), None)) == 1
    drafter.store.clear()
    drafter.store.learn([2], [7])
    assert drafter.propose(context, Budget.chain(5), None).lists()[0] == [2, 7]


def observed(drafter, context, tokens, rows):
    context.extend(tokens)
    drafter.observe(
        context,
        Round(
            index=1,
            tree=TokenTree.chain(0),
            verdict=Verdict([], list(tokens), []),
            tokens=tuple(tokens),
            kinds=("plain",) * len(tokens),
            pieces=("",) * len(tokens),
            times=Times(0, 0, 0, 0),
            extras={name: torch.tensor(rows) for name in drafter.wants},
        ),
    )


def test_it_learns_emitted_tokens_and_the_targets_best_beside_them():
    drafter = NgramDrafter(2, fillers=2, keep=True)
    assert drafter.wants == {"topk:2"}
    context = Context([1])
    drafter.start(context)
    observed(drafter, context, [2, 3], [[2, 7], [8, 3]])
    assert drafter.store._counts == {(1,): {2: 2, 7: 1}, (2,): {3: 2, 8: 1}}
    assert NgramDrafter(2, fillers=0).wants == set()


def test_kept_or_reset_between_prompts():
    for keep in (False, True):
        drafter = NgramDrafter(2, keep=keep)
        drafter.start(Context([1, 2]))
        drafter.start(Context([3, 4]))
        assert (drafter.store.next([1]) == 2) is keep
        drafter.reset()
        assert drafter.store.next([3]) is None


def test_a_resumed_text_is_not_learnt_twice():
    for keep in (False, True):
        drafter = NgramDrafter(2, fillers=0, keep=keep)
        context, later = Context([1, 2]), Context([1, 2, 3, 4])
        drafter.start(context)
        observed(drafter, context, [3], [])
        drafter.start(later, resume=True)
        counts = drafter._texts[later].store._counts
        assert counts == {(1,): {2: 1}, (2,): {3: 1}, (3,): {4: 1}}


def test_streams_that_take_turns_learn_nothing_twice():
    drafter = NgramDrafter(2, fillers=0, keep=True)
    one, two = Context([1, 2]), Context([8, 9])
    drafter.start(one)
    drafter.start(two)
    for _ in range(3):
        drafter.start(one, resume=True)
        drafter.start(two, resume=True)
    assert drafter.store._counts == {(1,): {2: 1}, (8,): {9: 1}}
    drafter.reset()
    drafter.start(one, resume=True)
    assert drafter.store._counts == {(1,): {2: 1}}


def test_fillers_come_from_the_target():
    target = tiny_model()
    drafter = NgramDrafter(2, fillers=3)
    decoder = Decoder(target, drafter)
    rounds = list(decoder.stream(range(10), max_new_tokens=30, ignore_eos=True))
    for turn in rounds:
        best = turn.extras["topk:3"]
        assert best.shape == (len(turn.verdict.path) + 1, 3)
        # greedy: what was emitted is the target's best token at every place
        assert best[:, 0].tolist()[: len(turn.tokens)] == list(turn.tokens)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"order": 1}, "order 1"), ({"fillers": -1}, "-1 fillers"), ({"capacity": 0}, "0 counts")],
)
def test_values_out_of_range_are_named(settings, words):
    with pytest.raises(InvalidArgument, match=words):
        NgramDrafter(**settings)
