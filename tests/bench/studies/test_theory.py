import pytest

from outpace.bench.theory import Parts, of_leviathan, of_parts, of_reference, tokens_a_round

EVEN = Parts(
    verifying=dict.fromkeys(range(1, 9), 1.0),
    drafting={1: 0.1, 2: 0.2, 4: 0.4},
    plain_round=1.0,
    plain_first=1.0,
    first=1.0,
    tokens=1001,
)


def test_formulas_by_hand() -> None:
    assert of_reference(0.5, 4, 0.25) == pytest.approx(3 / 2)
    assert of_leviathan(0.5, 2, 0.25) == pytest.approx((1 + 0.5 + 0.25) / 1.5)
    assert of_leviathan(0.8, 4, 0.1) == pytest.approx((1 + 0.8 + 0.64 + 0.512 + 0.4096) / 1.4)


@pytest.mark.parametrize("length", [1, 3, 7])
def test_limits(length: int) -> None:
    for formula in (of_reference, of_leviathan):
        assert formula(1.0, length, 0.0) == length + 1  # all accepted, drafts for nothing
        assert formula(0.0, length, 0.0) == 1.0
        assert formula(0.0, length, 0.5) == pytest.approx(1 / (1 + length / 2))
        assert formula(1.0, length, 1.0) == 1.0  # a drafter as dear as its target
    assert of_leviathan(1 - 1e-9, length, 0.1) == pytest.approx(of_leviathan(1.0, length, 0.1))


def test_both_formulas_are_one_for_a_single_token() -> None:
    assert of_reference(0.7, 1, 0.2) == pytest.approx(of_leviathan(0.7, 1, 0.2))
    assert of_reference(0.7, 2, 0.2) > of_leviathan(0.7, 2, 0.2)  # and only there


def test_tokens_a_round() -> None:
    assert tokens_a_round([], 3) == 1.0
    assert tokens_a_round([0.5, 0.5], 0) == 1.0
    assert tokens_a_round([0.5, 0.4], 2) == pytest.approx(1 + 0.5 + 0.2)
    assert tokens_a_round([0.5, 0.4, 1.0], 2) == pytest.approx(1.7)  # no deeper than it drafts
    assert tokens_a_round([0.5], 4) == pytest.approx(1.5)  # where nothing was tried, nothing counts
    even = [0.8] * 4
    assert tokens_a_round(even, 4) / 1.4 == pytest.approx(of_leviathan(0.8, 4, 0.1))


def test_from_parts_by_hand() -> None:
    # 1000 later tokens at 2 a round of 1.2 s: 600 s; plain decoding takes 1001 s
    assert of_parts([0.6, 2 / 3], 2, EVEN) == pytest.approx(1001 / (1 + 1000 / 2 * 1.2))


def test_from_parts_is_leviathan_where_nothing_else_costs() -> None:
    endless = Parts(EVEN.verifying, EVEN.drafting, 1.0, 1.0, 1.0, 1e9 + 1)
    by_parts = of_parts([0.8] * 4, 4, endless)
    assert by_parts == pytest.approx(of_leviathan(0.8, 4, endless.cost_ratio))


def test_the_first_token_and_what_is_around_are_not_sped_up() -> None:
    slow_first = Parts(EVEN.verifying, EVEN.drafting, 1.0, 1000.0, 1000.0, 1001)
    assert of_parts([1.0, 1.0], 2, slow_first) < of_parts([1.0, 1.0], 2, EVEN)
    around = Parts(EVEN.verifying, EVEN.drafting, 3.0, 3.0, 3.0, 1001)
    turn = 0.2 + 1.0 + 2.0
    assert of_parts([1.0, 1.0], 2, around) == pytest.approx(3003 / (3 + 1000 / 3 * turn))


def test_a_wide_forward_may_cost_more() -> None:
    steep = Parts({1: 1.0, 2: 1.0, 3: 5.0}, EVEN.drafting, 1.0, 1.0, 1.0, 1001)
    assert of_parts([1.0, 1.0], 2, steep) == pytest.approx(1001 / (1 + 1000 / 3 * 5.2))


def test_the_cost_ratio() -> None:
    assert EVEN.cost_ratio == pytest.approx(0.1)
    assert Parts({1: 2.0, 4: 9.0}, {1: 0.5, 3: 1.0}, 1, 1, 1, 9).cost_ratio == 0.25
