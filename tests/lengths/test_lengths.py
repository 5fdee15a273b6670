"""Length controllers."""

import pytest

from outpace.errors import InvalidArgument
from outpace.lengths.adaptive import AdaptiveLength
from outpace.lengths.fixed import FixedLength
from outpace.types import Budget, Context, Round, Times, TokenTree, Verdict

CONTEXT = Context([1])


def turn(drafted, accepted):
    return Round(
        index=1,
        tree=TokenTree.chain(0, [1] * drafted),
        verdict=Verdict(list(range(1, accepted + 1)), [1] * (accepted + 1), []),
        tokens=(1,) * (accepted + 1),
        kinds=("accepted",) * accepted + ("bonus",),
        pieces=("",) * (accepted + 1),
        times=Times(0, 0, 0, 0),
    )


def test_fixed():
    lengths = FixedLength(7)
    lengths.observe(turn(7, 0))
    assert lengths.next(CONTEXT) == Budget(7, 7)


def test_adaptive_follows_the_average_step_by_step():
    lengths, average = AdaptiveLength(), 0.8
    assert lengths.next(CONTEXT).depth == 5
    expected = 5
    for accepted in (5, 5, 5, 5, 5, 5, 0, 0, 0, 0, 0, 0, 0):
        lengths.observe(turn(5, accepted))
        average = 0.9 * average + 0.1 * accepted / 5
        if average < 0.5:
            expected -= 1
        elif average > 0.85:
            expected += 1
        assert lengths.next(CONTEXT).depth == expected
    assert expected != 5


def test_adaptive_stays_within_its_bounds_and_starts_afresh():
    lengths = AdaptiveLength()
    for _ in range(100):
        lengths.observe(turn(5, 5))
    assert lengths.next(CONTEXT).depth == 10
    for _ in range(100):
        lengths.observe(turn(5, 0))
    assert lengths.next(CONTEXT).depth == 2
    before = lengths.acceptance
    lengths.observe(turn(0, 0))
    assert lengths.acceptance == before
    lengths.start()
    assert (lengths.next(CONTEXT).depth, lengths.acceptance) == (5, 0.8)


def test_a_budget_is_clipped():
    assert Budget(8, 4).clip(2) == Budget(8, 2)
    assert Budget(8, 4).clip(0) == Budget(0, 0)
    assert Budget.chain(3).clip(-1) == Budget(0, 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FixedLength(0), "--drafter none"),
        (lambda: FixedLength(64), "draft length 64"),
        (lambda: AdaptiveLength(1), "from 1 within 2"),
        (lambda: AdaptiveLength(low=0), "--drafter none"),
        (lambda: AdaptiveLength(decay=1.0), "decay 1.0"),
        (lambda: AdaptiveLength(shorten=0.9, lengthen=0.5), "thresholds 0.9 and 0.5"),
    ],
)
def test_values_out_of_range_are_named(make, words):
    with pytest.raises(InvalidArgument, match=words):
        make()
