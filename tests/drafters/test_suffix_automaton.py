"""The suffix automaton against counting substrings one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outpace.drafters.suffix_automaton import WIDTH, SuffixAutomaton

TEXTS = st.lists(st.lists(st.integers(0, 3), max_size=24), min_size=1, max_size=4)
WIDE = st.lists(st.lists(st.integers(0, WIDTH + 6), max_size=60), min_size=1, max_size=3)
LONGEST = st.integers(1, 6)


def automaton(texts, longest, *, ended=False) -> SuffixAutomaton:
    """Read texts; the last one goes on unless ``ended``."""
    made = SuffixAutomaton(longest)
    for number, text in enumerate(texts):
        made.read(text)
        if ended or number + 1 < len(texts):
            made.finish()
    return made


def occurrences(texts, string) -> int:
    size = len(string)
    return sum(t[at : at + size] == string for t in texts for at in range(len(t) - size + 1))


def strings(texts, longest):
    return {
        tuple(t[a : a + n])
        for t in texts
        for n in range(1, longest + 1)
        for a in range(len(t) - n + 1)
    }


def ranked(texts, string):
    """The children of a string in their order, by brute force."""
    tokens = {token for text in texts for token in text}
    counts = {token: occurrences(texts, [*string, token]) for token in tokens}
    known = [token for token in counts if counts[token]]
    return sorted(known, key=lambda token: (-counts[token], token))[:WIDTH], counts


def check(texts, longest, ended):
    made = automaton(texts, longest, ended=ended)
    assert made.states <= max(2, 2 * len(made))
    for string in map(list, strings(texts, longest)):
        state, length = made.match(string)
        assert length == len(string)
        assert made.count(state) == occurrences(texts, string)
        children, counts = ranked(texts, string)
        assert made.children(state) == children
        for token in children:
            assert made.after(state, token) == counts[token]
            below, size = made.step(state, length, token)
            kept = [*string, token][-longest:]
            assert size == len(kept)
            assert made.count(below) == occurrences(texts, kept)


@given(TEXTS, LONGEST, st.booleans())
def test_counts_children_and_steps_are_those_of_brute_force(texts, longest, ended):
    check(texts, longest, ended)


@given(WIDE, st.integers(1, 3))
def test_of_many_children_the_best_are_kept(texts, longest):
    check(texts, longest, False)


@given(st.lists(st.integers(0, 2), max_size=40), LONGEST)
def test_the_repeated_end_is_the_longest_that_occurs_earlier(text, longest):
    made = SuffixAutomaton(longest)
    for read in range(len(text) + 1):
        so_far = text[:read]
        state, length = made.repeated()
        known = [
            n
            for n in range(1, min(longest, read) + 1)
            if occurrences([so_far], so_far[read - n :]) > 1
        ]
        assert length == max(known, default=0)
        if length:
            assert made.count(state) == occurrences([so_far], so_far[read - length :])
        if read < len(text):
            made.read([text[read]])


@given(TEXTS, st.lists(st.integers(0, 4), max_size=12), LONGEST)
def test_a_match_is_the_longest_end_that_was_read(texts, tokens, longest):
    made = automaton(texts, longest, ended=True)
    _, length = made.match(tokens)
    known = [
        n
        for n in range(1, min(longest, len(tokens)) + 1)
        if occurrences(texts, tokens[len(tokens) - n :])
    ]
    assert length == max(known, default=0)


@given(TEXTS, LONGEST)
def test_what_followed_a_string_was_counted_without_the_end_of_the_text(texts, longest):
    made = automaton(texts, longest)
    text = texts[-1]
    again, size = made.repeated()
    for string in map(list, strings(texts, longest)):
        state, length = made.match(string)
        there, kept, count = made.followed(state, length)
        only_the_end = occurrences(texts, string) == 1 and text[-length:] == string
        assert (there, kept) == ((again, size) if only_the_end else (state, length))
        assert count == made.count(there) - (bool(text) and there == again)
    finished = automaton(texts, longest, ended=True)
    for string in map(list, strings(texts, longest)):
        state, length = finished.match(string)
        assert finished.followed(state, length) == (state, length, finished.count(state))


def test_no_string_goes_from_one_text_into_the_next():
    made = automaton([[1, 2], [3, 4]], 4, ended=True)
    state, length = made.match([1, 2])
    assert (length, made.count(state), made.children(state)) == (2, 1, [])
    assert made.match([2, 3])[1] == 1


def test_of_equal_counts_the_smaller_token_comes_first():
    made = automaton([[9, 5, 9, 3, 9, 7, 9, 7]], 4)
    state, _ = made.match([9])
    assert made.children(state) == [7, 3, 5]


@pytest.mark.parametrize("text", [[0] * 4000, [0, 1] * 2000, [*range(50)] * 80])
def test_work_and_memory_for_a_token_are_bounded(text):
    longest = 8
    made = automaton([text], longest)
    # the tally follows at most `longest` links, states and edges are amortised constants
    assert made.work <= len(text) * (longest + 1 + 2 + 3)
    assert made.states <= 2 * len(text)
    assert made.nbytes <= 600 * len(text)
