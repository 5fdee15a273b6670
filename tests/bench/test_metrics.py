import pytest

from outpace.bench.metrics import Interval, mean_and_deviation, repeated_8gram_share, speedup


def test_repeated_8grams() -> None:
    assert repeated_8gram_share(list(range(100))) == 0
    assert repeated_8gram_share([1] * 100) == pytest.approx(92 / 93)
    assert repeated_8gram_share([1, 2, 3]) == 0
    assert repeated_8gram_share([*range(20), *range(20)]) == pytest.approx(13 / 33)


def test_mean_and_deviation() -> None:
    assert mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert mean_and_deviation([4.0]) == (4.0, 0.0)
    assert mean_and_deviation([]) == (0.0, 0.0)


def test_speedup_is_the_ratio_of_all_the_time() -> None:
    sure = speedup([[2.0, 2.0]] * 10, [[1.0, 1.0]] * 10)
    assert (sure.value, sure.low, sure.high) == (2.0, 2.0, 2.0)
    assert not sure.is_unsure
    uneven = speedup([[1.0], [9.0]], [[1.0], [1.0]])
    assert uneven.value == 5.0  # not the mean of 1 and 9 by texts, but of all the time
    assert uneven.low is not None
    assert uneven.high is not None
    assert uneven.low < 5.0 < uneven.high


def test_the_interval_resamples_prompts_not_repeats() -> None:
    """Repeats of one prompt are alike: they must not make the interval narrow."""
    few = speedup([[1.0] * 1, [3.0] * 1, [2.0] * 1], [[1.0] * 1] * 3)
    many = speedup([[1.0] * 50, [3.0] * 50, [2.0] * 50], [[1.0] * 50] * 3)
    assert (many.low, many.high) == (few.low, few.high)


def test_one_prompt_is_resampled_by_repeat() -> None:
    one = speedup([[1.0, 2.0, 3.0]], [[1.0, 1.0, 1.0]])
    assert one.low is not None
    assert one.high is not None
    assert one.low < one.value < one.high


def test_a_single_time_has_no_interval() -> None:
    assert speedup([[2.0]], [[1.0]]) == Interval(2.0, None, None)
    assert Interval(2.0, None, None).is_unsure


def test_unsure() -> None:
    assert Interval(1.05, 0.95, 1.15).is_unsure
    assert not Interval(1.5, 1.4, 1.6).is_unsure
    assert not Interval(0.5, 0.45, 0.55).is_unsure
