"""Every store: bounded, honest about its bytes, and no slower after a long history."""

import gc
import sys
import tracemalloc

import pytest
import torch

from outpace import Decoder
from outpace.drafters.cascade import CascadeDrafter
from outpace.drafters.ngram import MOST, NgramDrafter, NgramStore
from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.drafters.suffix import SuffixDrafter
from outpace.drafters.suffix_automaton import SuffixAutomaton
from outpace.drafters.suffix_window import SuffixWindow
from outpace.models.tiny import tiny_model
from outpace.types import Budget, Context, Round, Times, TokenTree, Verdict

CAPACITY = 1_000
BOUNDED = {
    "suffix, kept": (lambda: SuffixDrafter(keep=True, capacity=CAPACITY, longest=8), 100),
    "suffix, one text": (lambda: SuffixDrafter(window=CAPACITY, longest=8), None),
    "ngram, kept": (lambda: NgramDrafter(keep=True, capacity=CAPACITY, fillers=2), 100),
    "ngram, one text": (lambda: NgramDrafter(capacity=CAPACITY, fillers=2), None),
    "prompt-lookup, one text": (lambda: PromptLookupDrafter(window=CAPACITY), None),
}


def write(drafter, context, tokens, end=None):
    """Have a drafter see a round that wrote ``tokens``."""
    context.extend(tokens)
    zero = Times(0.0, 0.0, 0.0, 0.0)
    verdict, kinds = Verdict([], list(tokens), []), ("plain",) * len(tokens)
    extras = {name: torch.tensor([[t, (t + 1) % 200] for t in tokens]) for name in drafter.wants}
    tree = TokenTree.chain(context.tokens[-len(tokens) - 1])
    drafter.observe(context, Round(1, tree, verdict, tuple(tokens), kinds, (), zero, end, extras))


@pytest.mark.parametrize("name", BOUNDED)
def test_bytes_are_bounded_over_twenty_times_the_capacity(name, phrases):
    make, size = BOUNDED[name]
    drafter, text = make(), phrases(20 * CAPACITY)
    context, sizes = Context([0]), []
    drafter.start(context)
    for at in range(0, len(text), 20):
        full = size is not None and len(context) > size
        write(drafter, context, text[at : at + 20], "length" if full else None)
        drafter.propose(context, Budget(8, 8), None)
        sizes.append(drafter.store_bytes)
        if full:
            context = Context([0])
            drafter.start(context)
    filled = len(sizes) // 10  # twice the capacity
    assert max(sizes[filled:]) <= 1.3 * max(sizes[:filled])
    assert max(sizes) <= 1_000 * CAPACITY


def grown(make):
    """What a call returns, and the bytes that are held because of it."""
    gc.collect()
    tracemalloc.start()
    made = make()
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return made, held


def test_what_they_say_is_what_they_hold(phrases):
    text = [1_000 + token for token in phrases(20_000)]

    def automaton():
        made = SuffixAutomaton(16)
        made.read(text)
        return made

    def ngrams():
        made = NgramStore(4, multilevel=True, capacity=30_000)
        for place in range(1, len(text)):
            made.learn(text[max(0, place - 4) : place], [text[place]])
        return made

    def lookup():
        drafter, context = PromptLookupDrafter(), Context(text)
        drafter.start(context)
        (index,) = drafter._texts
        return index

    for make in (automaton, ngrams, lookup):
        made, held = grown(make)
        # never much less than is held; at most every integer counted where it is shared
        assert 0.9 * held <= made.nbytes <= 1.7 * held, make


def test_bytes_are_counted_as_if_every_state_were_looked_at(phrases):
    made = SuffixAutomaton(8)
    made.read(phrases(3_000))
    made.finish()
    made.read([3] * 100)
    assert made._edges == sum(map(len, made._next))
    assert made._table_bytes == sum(map(sys.getsizeof, made._next))
    counts = NgramStore(3, multilevel=True, capacity=500)
    for place, token in enumerate(phrases(3_000)):
        counts.learn([token, place % 7], [token, place % 90])
    assert counts._table_bytes == sum(map(sys.getsizeof, counts._counts.values()))
    assert len(counts) == sum(map(len, counts._counts.values())) <= 500


def test_a_text_says_what_its_drafter_holds():
    target = tiny_model()
    for drafter in (SuffixDrafter(), NgramDrafter(), PromptLookupDrafter(), CascadeDrafter()):
        output = Decoder(target, drafter).generate([5, 6, 5], max_new_tokens=20, ignore_eos=True)
        assert output.stats.store_bytes == drafter.store_bytes > 0
        assert output.stats.as_dict()["store_bytes"] == output.stats.store_bytes
    assert Decoder(target).generate([5], max_new_tokens=2).stats.store_bytes == 0


# --- the window of a text ----------------------------------------------------------------------


def test_a_text_of_half_a_window_is_drafted_as_if_there_were_none(phrases):
    text = phrases(400)
    for factory, small, large in (
        (SuffixDrafter, {"longest": 8, "window": 800}, {"longest": 8, "window": 10**6}),
        (PromptLookupDrafter, {"window": 800}, {"window": 10**6}),
    ):
        one, other = factory(**small), factory(**large)
        for end in range(1, 401, 3):
            context = Context(text[:end])
            trees = [d.propose(context, Budget(20, 20), None).lists() for d in (one, other)]
            assert trees[0] == trees[1]


def test_a_window_knows_the_last_half_and_depends_on_the_length_alone(phrases):
    text, size, longest = phrases(1_000), 80, 10
    step = SuffixWindow(size, longest)
    for end in range(1, len(text) + 1):
        step.read(text[:end])
        if end % 7:
            continue
        once = SuffixWindow(size, longest)
        once.read(text[:end])
        assert once.young.tokens == step.young.tokens
        assert (once.old and once.old.tokens) == (step.old and step.old.tokens)
        known = [g for g in (step.old, step.young) if g is not None]
        assert sum(map(len, known)) <= size
        for at in range(max(0, end - size // 2 + longest), end - longest + 1):
            string = text[at : at + longest]
            assert any(g.match(string)[1] == longest for g in known)


def test_what_is_older_than_the_window_is_not_drafted():
    rare = [500, 501, 502, 503]
    filling = [n % 100 for n in range(2_000)]
    for drafter in (SuffixDrafter(longest=8, window=200), PromptLookupDrafter(window=200)):
        for apart, found in ((60, True), (1_000, False)):
            context = Context([*rare, *filling[:apart], 500])
            drafter.start(context)
            tree = drafter.propose(context, Budget(3, 3), None)
            assert (501 in tree.lists()[0]) is found


# --- cost --------------------------------------------------------------------------------------


def test_work_of_an_ngram_draft_token_does_not_grow_with_the_history(phrases):
    costs = []
    for history in (1_000, 10_000, 100_000):
        drafter, context = NgramDrafter(fillers=0), Context(phrases(history))
        drafter.start(context)
        store, drafted, before = drafter._texts[context].store, 0, 0
        before = store.work
        for token in phrases(50, seed=1):
            context.extend([token])
            drafted += len(drafter.propose(context, Budget.chain(10), None)) - 1
        costs.append((store.work - before) / drafted)
    assert max(costs) <= 2 + MOST  # two lengths of context, and the tokens counted after one


def test_a_context_that_anything_follows_counts_the_most_frequent():
    counts = NgramStore(2, multilevel=True, capacity=10_000)
    for number in range(1_000):
        counts.learn([1], [2 + number])
        counts.learn([1], [5_000 + number % 3])
    assert len(counts) == MOST
    assert counts.next([1]) == 5_000
    assert max(counts._counts[1,].values()) >= 300
    before = counts.work
    counts.next([1])
    assert counts.work - before <= MOST + 1


@pytest.mark.parametrize("history", [1_000, 100_000])
def test_a_lookup_reads_no_more_of_the_text_than_it_copies(history, phrases):
    class Watched(list):
        looked = 0

        def __getitem__(self, place):
            if isinstance(place, slice):
                self.looked += len(range(*place.indices(len(self))))
            else:
                self.looked += 1
            return super().__getitem__(place)

    drafter, context = PromptLookupDrafter(), Context([*phrases(history), 1, 1])
    drafter.start(context)
    context.tokens = Watched(context.tokens)
    context.extend([1])
    drafter.propose(context, Budget.chain(10), None)
    assert 0 < context.tokens.looked <= 4 * 5 + 10 + 2 + 10


def test_windows_out_of_range_are_named():
    with pytest.raises(ValueError, match="a window of 1 tokens: give 2 or more"):
        PromptLookupDrafter(window=1)
