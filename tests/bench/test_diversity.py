import math

import pytest

from outpace.bench.diversity import bleu, distinct, self_bleu


def test_distinct_counts_ngrams_over_all_texts() -> None:
    assert distinct([[1, 2, 1, 2]], 1) == 2 / 4
    assert distinct([[1, 2, 1, 2]], 2) == 2 / 3  # 12, 21, 12
    assert distinct([[1, 2, 3], [1, 2, 4]], 2) == 3 / 4  # not 1, the mean of both texts
    assert distinct([[7] * 50], 3) == 1 / 48
    assert distinct([list(range(50))], 3) == 1.0


def test_no_ngram_crosses_the_end_of_a_text() -> None:
    assert distinct([[1, 2], [3, 4]], 2) == 1.0
    assert distinct([[1, 2], [2, 1]], 2) == 1.0  # never 22
    assert distinct([[1], [2]], 2) is None
    assert distinct([], 1) is None


def test_equal_texts_have_a_self_bleu_of_one() -> None:
    assert self_bleu([[1, 2, 3, 4, 5]] * 3) == pytest.approx(1.0)
    assert self_bleu([[1, 2]] * 2) == pytest.approx(1.0)  # shorter than its longest n-grams
    assert self_bleu([[1, 2, 3]]) is None
    assert self_bleu([]) is None


def test_texts_without_a_common_token_have_none() -> None:
    assert self_bleu([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]) == 0.0


def test_bleu_by_hand() -> None:
    # of 1 2 3 9: tokens 3 of 4, pairs (2 + 1) of (3 + 1), triples (1 + 1) of (2 + 1), fours 1 of 2
    by_hand = (3 / 4 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert bleu([1, 2, 3, 9], [[1, 2, 3, 4]]) == pytest.approx(by_hand)
    # a token counts as often as one reference has it, no more
    assert bleu([1, 1], [[1, 2]]) == pytest.approx((1 / 2 * 1 / 2) ** 0.25)


def test_a_text_that_is_too_short_pays_for_it() -> None:
    short, long = [1, 2, 3, 4], [1, 2, 3, 4, 5, 6]
    assert bleu(short, [long]) == pytest.approx(math.exp(1 - 6 / 4))
    assert bleu(long, [long, short]) == pytest.approx(1.0)
    assert bleu(short, [long, [9] * 4]) == pytest.approx(1.0)  # the nearest length counts


def test_more_alike_is_more() -> None:
    one, near, far = [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 9], [1, 9, 2, 8, 3, 7]
    scores = [self_bleu([one, other]) for other in (one, near, far)]
    assert scores[0] > scores[1] > scores[2] > 0  # type: ignore[operator]


def test_nothing_to_compare() -> None:
    assert bleu([], [[1]]) == 0.0
    assert bleu([1], []) == 0.0
