"""Suffix decoding: what it drafts, what it keeps, and for whom."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outpace import Decoder
from outpace.drafters.suffix import SuffixDrafter
from outpace.drafters.suffix_store import SuffixStore
from outpace.errors import InvalidArgument, VocabularyMismatch
from outpace.lengths.fixed import FixedLength
from outpace.models.tiny import tiny_model
from outpace.types import Budget, Context, Round, Times, TokenTree, Verdict

MOST = Budget(63, 63)


def proposed(drafter, tokens, budget=MOST) -> TokenTree:
    context = Context(tokens)
    drafter.start(context)
    return drafter.propose(context, budget, None)


def finished(drafter, prompt, output) -> None:
    """Let a drafter see a text to its end."""
    context = Context(prompt)
    drafter.start(context)
    context.extend(output)
    drafter.observe(
        context,
        Round(
            index=1,
            tree=TokenTree.chain(prompt[-1]),
            verdict=Verdict([], list(output), []),
            tokens=tuple(output),
            kinds=("plain",) * len(output),
            pieces=("",) * len(output),
            times=Times(0, 0, 0, 0),
            end="eos",
        ),
    )


def paths(tree):
    """Every path from the root, the root first."""
    tokens, parents = tree.lists()
    walks = [[tokens[0]]]
    for node in range(1, len(tokens)):
        walks.append([*walks[parents[node]], tokens[node]])
    return walks


# --- what is drafted ---------------------------------------------------------------------------


def test_a_tree_computed_by_hand():
    # [1, 2] was followed by 3 twice (then 4 and 5, once each) and by 6 once (then 8)
    text = [1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 1, 2, 6, 8, 9, 1, 2]
    # the match is [9, 1, 2], two of whose occurrences went on: with 3 5 9 1 …, with 6 8 9 1 …
    tree = proposed(SuffixDrafter(2), text)
    tokens, parents = tree.lists()
    # all at 1/2 and counted once: the smaller token, then the parent that was added first
    assert tokens == [2, 3, 5, 6, 8, 9, 1]
    assert parents == [-1, 0, 1, 0, 3, 2, 5]
    assert [math.exp(score) for score in tree.scores] == pytest.approx([1] + [0.5] * 6)
    # a match of one token less: [1, 2], three occurrences that went on
    tree = proposed(SuffixDrafter(2), [*text[:-3], 7, 1, 2])
    tokens, parents = tree.lists()
    assert tokens == [2, 3, 4, 5, 6]
    assert parents == [-1, 0, 1, 1, 0]
    assert [math.exp(s) for s in tree.scores] == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3, 1 / 3])


def test_the_match_sets_the_size_and_the_budget_bounds_it():
    text = [*range(20), *range(6)]
    for factor, nodes in ((0.5, 3), (1, 6), (2, 12)):
        assert len(proposed(SuffixDrafter(factor), text)) == 1 + nodes
    assert proposed(SuffixDrafter(2), text, Budget(4, 4)).lists()[0] == [5, 6, 7, 8, 9]
    assert len(proposed(SuffixDrafter(2), text, Budget(8, 3))) == 4
    assert len(proposed(SuffixDrafter(2), text, Budget(0, 0))) == 1
    assert len(proposed(SuffixDrafter(2), [1, 2, 3])) == 1
    assert len(proposed(SuffixDrafter(0.3), [7, 7, 1, 7])) == 1  # less than a node


def test_a_loop_is_drafted_to_the_full_length():
    tree = proposed(SuffixDrafter(2, longest=8), [4, 5] * 40)
    assert tree.lists()[0] == [5, *[4, 5] * 8]
    assert tree.is_chain


def test_of_two_sources_the_larger_sum_of_probabilities_counts():
    text = [1, 2, 3, 9, 1, 2, 4, 9, 8, 1, 2]  # after [1, 2]: 3 or 4
    shared = SuffixStore()
    shared.add([1, 2, 7, 7, 7, 7])
    assert proposed(SuffixDrafter(2.0, shared=shared), text).lists()[0] == [2, 7, 7, 7, 7]
    same = SuffixStore()  # equal sums: the text itself
    same.add([1, 2, 7, 7])
    assert proposed(SuffixDrafter(1, shared=same), [1, 2, 3, 9, 8, 1, 2]).lists()[0] == [2, 3, 9]


def test_it_reads_on_while_the_text_grows():
    drafter, context = SuffixDrafter(2), Context([1, 2, 3])
    drafter.start(context)
    assert len(drafter.propose(context, MOST, None)) == 1
    context.extend([1, 2])
    assert drafter.propose(context, MOST, None).lists()[0] == [2, 3, 1, 2, 3]


def test_the_embedded_loop_saves_forwards():
    target = tiny_model()
    prompt = [5, 6, 7, 5, 6, 7, 5, 6]
    plain = Decoder(target).generate(prompt, max_new_tokens=60, ignore_eos=True)
    got = Decoder(target, SuffixDrafter()).generate(prompt, max_new_tokens=60, ignore_eos=True)
    assert got.tokens == plain.tokens
    assert got.stats.rounds < plain.stats.rounds


# --- what is kept, and for whom ----------------------------------------------------------------


def test_outputs_are_kept_where_asked_for_and_reset_forgets_them():
    for keep in (False, True):
        drafter = SuffixDrafter(keep=keep)
        finished(drafter, [1], [2, 3, 4, 5])
        assert (proposed(drafter, [9, 2, 3]).lists()[0] == [3, 4, 5]) is keep
        drafter.reset()
        assert len(proposed(drafter, [9, 2, 3])) == 1


def test_a_prompt_is_not_an_output():
    drafter = SuffixDrafter(keep=True)
    finished(drafter, [6, 7, 8], [2, 3])
    assert len(proposed(drafter, [6])) == 1


def test_reset_leaves_a_shared_store_alone():
    shared = SuffixStore()
    shared.add([1, 2, 3])
    drafter = SuffixDrafter(keep=True, shared=shared)
    finished(drafter, [1], [7, 8, 9])
    assert len(shared) == 4  # nothing of the drafter's went into it
    drafter.reset()
    assert proposed(drafter, [1, 2]).lists()[0] == [2, 3]


def test_outputs_are_kept_in_a_file(tmp_path):
    path = tmp_path / "deep" / "mine"
    first = SuffixDrafter(keep=path, capacity=100)
    assert path.exists()
    finished(first, [1], [2, 3, 4, 5])
    first.reset()  # what is in the file stays, also when the next output is saved there
    assert len(proposed(first, [9, 2, 3])) > 1
    for keep in (path, str(path)):
        assert proposed(SuffixDrafter(keep=keep, capacity=100), [9, 2, 3]).lists()[0] == [3, 4, 5]
    second = SuffixDrafter(keep=path, capacity=100)
    finished(second, [1], [6, 7, 8])
    third = SuffixDrafter(keep=path, capacity=100)
    for ending in ([2, 3], [6, 7]):
        assert len(proposed(third, [9, *ending])) > 1
    assert [file.name for file in path.parent.iterdir()] == ["mine"]  # nothing is left beside it
    # the same file can be handed to others to read
    assert proposed(SuffixDrafter(shared=path), [9, 6, 7]).lists()[0] == [7, 8]
    assert proposed(SuffixDrafter(shared=str(path)), [9, 6, 7]).lists()[0] == [7, 8]


def test_a_file_that_cannot_be_used_is_told_at_once(tmp_path):
    def refused(words, **options):
        with pytest.raises(InvalidArgument, match=words) as caught:
            SuffixDrafter(**options)
        assert "\n" not in str(caught.value)

    noise = tmp_path / "noise"
    noise.write_text("no store")
    for option in ("keep", "shared"):
        refused("noise: not a saved suffix store", **{option: noise})
        refused("not a saved suffix store", **{option: tmp_path})
    refused("missing: not a saved suffix store", shared=tmp_path / "missing")
    refused("give a file that can be written", keep=noise / "below")
    assert noise.read_text() == "no store"
    SuffixStore(100, longest=8).save(tmp_path / "other")
    refused("capacity 100 and matches of up to 8 tokens, not 65536 and 32", keep=tmp_path / "other")
    large = SuffixStore()
    large.add([10**6, 1])
    large.save(tmp_path / "large")
    with pytest.raises(VocabularyMismatch, match="store of outputs holds token 1000000"):
        Decoder(tiny_model(), SuffixDrafter(keep=tmp_path / "large"))


def test_the_loop_keeps_outputs_in_a_file(tmp_path):
    target, prompt = tiny_model(), [5, 6, 7]
    request = {"max_new_tokens": 40, "temperature": 1.0, "seed": 3, "ignore_eos": True}
    rounds = []
    for _ in range(2):  # a new drafter each time
        decoder = Decoder(target, SuffixDrafter(keep=tmp_path / "mine"))
        rounds.append(decoder.generate(prompt, **request).stats.rounds)
    assert rounds[1] < rounds[0]


TOKENS = st.integers(0, 4)
TURNS = st.lists(
    st.tuples(st.integers(0, 1), st.booleans(), st.lists(TOKENS, min_size=1, max_size=10)),
    min_size=1,
    max_size=12,
)


def holds(texts, string) -> bool:
    size = len(string)
    return any(t[at : at + size] == string for t in texts for at in range(len(t) - size + 1))


def goes_on(texts, text, path) -> bool:
    """Whether a path is in the texts, or runs to the end of ``text`` and goes on from there."""
    if holds(texts, path):
        return True
    ends = (n for n in range(2, len(path)) if text[-n:] == path[:n])
    return any(goes_on(texts, text, path[n - 1 :]) for n in ends)


@given(TURNS, st.booleans())
@settings(max_examples=150, deadline=None)
def test_what_one_tenant_wrote_is_never_proposed_to_another(turns, keep):
    shared = SuffixStore(64, longest=30)
    public = [0, 1, 2, 0, 1]
    shared.add(public)
    # with keep a drafter each; without, one drafter serves both, turn by turn
    first = SuffixDrafter(8.0, longest=30, keep=keep, shared=shared)
    second = SuffixDrafter(8.0, longest=30, keep=keep, shared=shared) if keep else first
    drafters = (first, second)
    written: tuple[list[list[int]], ...] = ([], [])
    contexts: list[Context | None] = [None, None]
    for tenant, new, tokens in turns:
        drafter, context = drafters[tenant], contexts[tenant]
        if context is None or new:
            context = contexts[tenant] = Context(tokens)
            written[tenant].append(context.tokens)
            drafter.start(context)
        else:
            context.extend(tokens)
            drafter.start(context, resume=True)
        tree = drafter.propose(context, Budget(20, 20), None)
        known = [*(written[tenant] if keep else [context.tokens]), public]
        assert all(goes_on(known, context.tokens, path) for path in paths(tree))
        if keep and new:
            ended = Context([])
            ended.extend(tokens)
            drafter.observe(ended, _end(tokens))
            written[tenant].append(list(tokens))


def _end(tokens):
    zero = Times(0, 0, 0, 0)
    verdict = Verdict([], list(tokens), [])
    kinds = ("plain",) * len(tokens)
    return Round(1, TokenTree.chain(0), verdict, tuple(tokens), kinds, (), zero, "eos")


def test_the_property_sees_a_leak():
    # the negative control: two tenants handed one store that learns from both
    store = SuffixStore()
    store.add([3, 4, 3, 4])  # one tenant's
    tree = proposed(SuffixDrafter(shared=store), [1, 3])
    assert not all(holds([[1, 3]], path) for path in paths(tree))


def test_a_text_that_goes_on_takes_over_what_was_read():
    drafter = SuffixDrafter(2.0)
    one, two = Context([1, 2, 3]), Context([1, 2, 3, 4, 1])
    drafter.start(one)
    read = drafter._texts[one]
    drafter.start(two, resume=True)
    assert drafter._texts[two] is read
    assert drafter._texts[one] is not read
    assert drafter.propose(two, MOST, None).lists()[0] == [1, 2, 3]
    assert len(drafter.propose(one, MOST, None)) == 1  # it is not told of the 4
    other = Context([1, 9])
    drafter.start(other, resume=True)
    assert drafter._texts[other].young.tokens.tolist() == [1, 9]


def test_texts_that_are_gone_take_no_memory():
    drafter = SuffixDrafter()
    empty = drafter.store_bytes
    context = Context(list(range(100)))
    drafter.start(context)
    assert drafter.store_bytes > empty + 800
    del context
    assert drafter.store_bytes == empty


# --- cost --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["phrases", "loop"])
def test_work_for_a_draft_token_does_not_grow_with_the_history(kind, phrases):
    drafting, reading = [], []
    for history in (1_000, 10_000, 100_000):
        text = phrases(history) if kind == "phrases" else [1, 2, 3, 4, 5] * (history // 5)
        drafter = SuffixDrafter(longest=16, window=2 * history)
        context = Context(text[:-200])
        drafter.start(context)
        window, drafted, work_read, work_drafted = drafter._texts[context], 0, 0, 0
        read = window.young
        for token in text[-200:]:
            context.extend([token])
            before = read.work
            window.read(context.tokens)
            work_read += read.work - before
            before = read.work
            drafted += len(drafter.propose(context, MOST, None)) - 1
            work_drafted += read.work - before
        drafting.append(work_drafted / drafted)
        reading.append(work_read / 200)
    assert max(drafting) <= 10  # at most WIDTH children looked at, and a step
    assert max(drafting) <= 2 * drafting[0]
    assert max(reading) <= 16 + 6 + 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"factor": 0}, "0 nodes a token"),
        ({"factor": math.nan}, "nan nodes a token"),
        ({"longest": 0}, "up to 0 tokens"),
        ({"capacity": 3}, "room for 3 tokens"),
        ({"window": 127}, "a window of 127 tokens .* give 128 or more"),
    ],
)
def test_values_out_of_range_are_named(options, words):
    with pytest.raises(InvalidArgument, match=words):
        SuffixDrafter(**options)


def test_a_shared_store_of_another_vocabulary_is_refused():
    target, shared = tiny_model(), SuffixStore()
    shared.add([target.vocabulary])
    with pytest.raises(VocabularyMismatch, match="the target knows"):
        Decoder(target, SuffixDrafter(shared=shared))
    shared.clear()
    decoder = Decoder(target, SuffixDrafter(shared=shared), lengths=FixedLength(5))
    shared.add([target.vocabulary])
    with pytest.raises(VocabularyMismatch, match="the target knows"):
        decoder.generate([1], max_new_tokens=2)
