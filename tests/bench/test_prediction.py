"""Predictions against simulated rounds whose costs are known."""

import random
from collections.abc import Callable, Sequence

import pytest

from outpace.bench.prediction import Prices, plan_speed
from outpace.bench.trace import Traced, replayed
from outpace.models.runtime import width_for

VERIFYING = {1: 1.0, 2: 1.05, 4: 1.1, 8: 1.8, 16: 3.0, 32: 5.0, 64: 9.0}
DRAFTING = {1: 0.2, 2: 0.25, 4: 0.3, 8: 0.4, 16: 0.6, 32: 1.0, 64: 2.0}
OVERHEAD, CHOOSING = 0.05, 0.02
LONGEST = 8


def independent(rng: random.Random) -> list[bool]:
    """Whether the drafter agrees with the target at each token of a text."""
    return [rng.random() < 0.7 for _ in range(127)]


def in_runs(rng: random.Random) -> list[bool]:
    """The same, but agreement comes in runs, as it does in real text."""
    agrees = [True]
    for _ in range(126):
        agrees.append(rng.random() < (0.93 if agrees[-1] else 0.3))
    return agrees


def simulate(agrees: Sequence[bool], length: int) -> list[Traced]:
    """Decode: what each round drafts and takes, by the costs above."""
    turns, place, again = [], 0, False
    while place < len(agrees):
        drafted = min(length, len(agrees) - place - 1)
        accepted = 0
        while accepted < drafted and agrees[place + accepted]:
            accepted += 1
        seconds = VERIFYING[width_for(drafted + 1)] + OVERHEAD
        seconds += drafted * (DRAFTING[1] + CHOOSING)
        seconds += (DRAFTING[2] - DRAFTING[1]) * (again and drafted > 0)
        turns.append(Traced(drafted, (1,) * drafted, accepted, again, seconds))
        again = 0 < drafted == accepted
        place += accepted + 1
    return turns


Text = Callable[[random.Random], list[bool]]


def texts_of(text: Text) -> list[list[bool]]:
    rng = random.Random(0)
    return [text(rng) for _ in range(60)]


def total(texts: list[list[Traced]]) -> float:
    return sum(turn.seconds for text in texts for turn in text)


def priced(texts: list[list[bool]]) -> tuple[Prices, list[list[Traced]]]:
    plain = [turn for text in texts for turn in simulate(text, 0)]
    traces = [simulate(text, LONGEST) for text in texts]
    return Prices.of(VERIFYING, DRAFTING, plain, [t for text in traces for t in text]), traces


def test_prices_are_found_again() -> None:
    prices, _ = priced(texts_of(independent))
    assert prices.overhead == pytest.approx(OVERHEAD)
    assert prices.step == pytest.approx(CHOOSING)
    assert prices.asked == 0


@pytest.mark.parametrize("text", [independent, in_runs])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 6, 8])
def test_predicted_is_simulated(text: Text, length: int) -> None:
    texts = texts_of(text)
    prices, traces = priced(texts)
    predicted = sum(prices.seconds(replayed(trace, LONGEST, length)) for trace in traces)
    assert predicted == pytest.approx(
        total([simulate(agrees, length) for agrees in texts]), rel=0.02
    )


def test_without_the_staircase_it_misses() -> None:
    texts = texts_of(independent)
    prices, traces = priced(texts)
    flat = Prices(dict.fromkeys(VERIFYING, 1.0), DRAFTING, prices.overhead, prices.step)
    predicted = sum(flat.seconds(replayed(trace, LONGEST, 6)) for trace in traces)
    assert predicted < 0.9 * total([simulate(agrees, 6) for agrees in texts])


def test_with_depths_taken_for_independent_it_misses() -> None:
    texts = texts_of(in_runs)
    prices, traces = priced(texts)
    rounds = [turn for trace in traces for turn in trace if turn.drafted == LONGEST]
    share = [sum(turn.accepted >= depth for turn in rounds) / len(rounds) for depth in (1, 2)]
    tokens = 127 * len(texts)
    predicted = prices.round(Traced.chain(2, 0)) * tokens / (1 + sum(share))
    assert predicted > 1.03 * total([simulate(agrees, 2) for agrees in texts])


def test_a_lookup_costs_as_a_whole() -> None:
    plain = [Traced(0, (), 0, seconds=1.05)] * 20
    turns = [Traced(0, (), 0, seconds=1.08), Traced.chain(3, 3)] * 10
    turns = [
        turn if turn.seconds else Traced(3, turn.levels, 3, seconds=1.1 + 0.05 + 0.4)
        for turn in turns
    ]
    prices = Prices.of(VERIFYING, None, plain, turns)
    assert (prices.asked, prices.step) == (pytest.approx(0.03), pytest.approx(0.4))
    assert prices.seconds(turns) == pytest.approx(sum(turn.seconds for turn in turns))
    costs = prices.costs()
    assert costs.draft(0) == pytest.approx(0.03)
    assert costs.draft(1) == costs.draft(9) == pytest.approx(0.4)
    whole = prices.costs_of(turns)
    assert whole.draft(3) == pytest.approx(0.4)
    assert prices.costs_of(turns[:1]) == costs  # it never drafted


def test_costs_of_a_model() -> None:
    costs = Prices(VERIFYING, DRAFTING, OVERHEAD, CHOOSING, feeding=0.02).costs()
    assert costs.round(4) == pytest.approx(VERIFYING[8] + OVERHEAD + 4 * (0.2 + CHOOSING))
    assert costs.round(0) == pytest.approx(VERIFYING[1] + OVERHEAD)
    assert costs.catching_up == 0.02


def test_a_planned_tree() -> None:
    # two children of the root, one below the first: levels of one and one node with children
    plan = ((1, 2), (3,), (), ())
    prices = Prices(VERIFYING, DRAFTING, OVERHEAD, CHOOSING)
    seconds = VERIFYING[4] + OVERHEAD + 2 * (DRAFTING[1] + CHOOSING)
    tokens = 1 + 0.6 + 0.2 + 0.6 * 0.6
    assert plan_speed(prices, plan, [0.6, 0.2]) == pytest.approx(tokens / seconds)
