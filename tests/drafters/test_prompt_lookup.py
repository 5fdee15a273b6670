"""Prompt lookup."""

import pytest

from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.errors import InvalidArgument
from outpace.types import Budget, Context


def drafted(tokens, depth=4, **settings):
    drafter = PromptLookupDrafter(**settings)
    context = Context(tokens)
    drafter.start(context)
    return drafter.propose(context, Budget.chain(depth), None).lists()[0][1:]


def test_the_longest_match_is_copied():
    # 2 stands last at the end of (3, 2 → 8), but 1 2 matches longer
    assert drafted([1, 2, 5, 6, 7, 3, 2, 8, 1, 2]) == [5, 6, 7, 3]


def test_of_equal_matches_the_latest_is_copied():
    assert drafted([1, 2, 5, 1, 2, 6, 1, 2], depth=1) == [6]


def test_nothing_matches():
    assert drafted([1, 2, 3, 4]) == []
    assert drafted([1]) == []
    assert drafted([1, 2, 1], shortest=2) == []


def test_a_copy_goes_on_past_the_end_of_the_text():
    assert drafted([7, 7, 7], depth=5) == [7] * 5
    assert drafted([1, 2, 3, 1, 2, 3], depth=7) == [1, 2, 3, 1, 2, 3, 1]


def test_the_budget_is_kept():
    assert drafted([1, 2, 3, 1], depth=2) == [2, 3]
    assert drafted([1, 2, 3, 1], depth=0) == []


def test_output_is_looked_up_too():
    drafter = PromptLookupDrafter()
    context = Context([1, 2])
    drafter.start(context)
    context.extend([3, 1])
    assert drafter.propose(context, Budget.chain(2), None).lists()[0] == [1, 2, 3]
    drafter.start(Context([5, 6]))
    assert len(drafter.propose(Context([5, 6, 1]), Budget.chain(2), None)) == 1


def test_index_is_grown_not_rebuilt():
    drafter = PromptLookupDrafter(longest=2)
    context = Context(list(range(100)))
    drafter.start(context)
    index = drafter._texts[context]
    size = len(index._young)
    context.extend([200])
    drafter.propose(context, Budget.chain(2), None)
    assert drafter._texts[context] is index
    assert len(index._young) == size + 2


def test_values_out_of_range_are_named():
    for longest, shortest in ((0, 1), (2, 3), (2, 0)):
        with pytest.raises(InvalidArgument, match=f"n-grams of {shortest} to {longest}"):
            PromptLookupDrafter(longest, shortest)
