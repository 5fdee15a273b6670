"""The cost gate: it finds the best length, and never loses much."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import AS_LARGE, COMPILED, FLAT, Drafts, Simulation, Target, Text, by_rate

from outpace.errors import InvalidArgument
from outpace.lengths.acceptance import Acceptance
from outpace.lengths.costs import Costs
from outpace.lengths.fixed import FixedLength
from outpace.lengths.gate import GateLength
from outpace.lengths.ledger import Ledger
from outpace.lengths.yields import Yields
from outpace.testing import check_lengths
from outpace.types import Budget, Context, Round, Times, TokenTree, Verdict

SLOWER = Costs(
    {width: 5 * seconds for width, seconds in COMPILED.verifying.items()},
    {length: 5 * seconds for length, seconds in COMPILED.drafting.items()},
    catching_up=5 * COMPILED.catching_up,
)


def turn_of(drafted, accepted):
    verdict = Verdict(list(range(1, accepted + 1)), [1] * (accepted + 1), [])
    chain = TokenTree.chain(0, [1] * drafted)
    return Round(1, chain, verdict, (1,) * (accepted + 1), (), (), Times(0.0, 0.0, 0.0, 0.0))


def gate(costs=COMPILED, *, budget=None, model=True, **given):
    made = GateLength(**given)
    made.both = Target(), Drafts(costs, budget, model)  # held here: the gate does not
    made.attach(*made.both)
    return made


def simulate(costs, accept, tokens, **given):
    return Simulation(gate(costs, **given), costs, accept).write(tokens)


def best_fixed(costs, rate, tokens=2000, lengths=range(1, 13)):
    runs = (Simulation(FixedLength(k), costs, by_rate(rate)) for k in lengths)
    return max([1.0, *(run.write(tokens).speedup for run in runs)])


def test_contract():
    check_lengths(GateLength)


def wrong(_written, _drafted):
    return 0


@pytest.mark.parametrize("costs", [COMPILED, FLAT, AS_LARGE])
def test_a_drafter_that_is_always_wrong_costs_next_to_nothing(costs):
    run = simulate(costs, wrong, 512)
    assert run.speedup >= 0.97
    later = run.drafts[64:]
    assert sum(map(bool, later)) < 0.15 * len(later)


@pytest.mark.parametrize("rate", [0.5, 0.9, 1.0])
def test_a_drafter_as_large_as_the_target_costs_next_to_nothing(rate):
    assert simulate(AS_LARGE, by_rate(rate), 512).speedup >= 0.97


@pytest.mark.parametrize("costs", [COMPILED, FLAT])
@pytest.mark.parametrize("rate", [0.2, 0.6, 0.75, 0.9, 1.0])
def test_once_warm_it_is_as_fast_as_the_best_length(costs, rate):
    lengths = gate(costs)
    Simulation(lengths, costs, by_rate(rate, seed=1)).write(600)
    run = Simulation(lengths, costs, by_rate(rate, seed=2)).write(3000)
    best = best_fixed(costs, rate)
    assert run.speedup >= 0.95 * best
    assert best == 1 or run.speedup > 1


def regimes(written, drafted):
    return drafted if 1000 <= written < 2000 else 0


def test_it_follows_a_change_of_the_text():
    run = simulate(FLAT, regimes, 1000)
    before = run.seconds
    run.write(1000)
    assert 1000 * FLAT.verify(1) / (run.seconds - before) > 2
    before = run.seconds
    run.write(1000)  # two in a hundred of the text so far may be lost at once
    assert 1000 * FLAT.verify(1) / (run.seconds - before) > 0.93
    before = run.seconds
    run.write(1000)
    assert 1000 * FLAT.verify(1) / (run.seconds - before) > 0.97


def test_without_forgetting_a_change_is_missed():
    lengths = gate(FLAT)
    lengths.acceptance = Acceptance(lengths.most, discount=1.0, pull=0.0)
    run = Simulation(lengths, FLAT, regimes).write(1000)
    before = run.seconds
    run.write(1000)
    assert 1000 * FLAT.verify(1) / (run.seconds - before) < 1.5


class Believing(Ledger):
    """Allows everything."""

    room = float("inf")


def spoil(_written, drafted):
    """Accept short drafts, so that long ones look worth it, and none of these."""
    return drafted if drafted <= 3 else 0


def test_an_adversary_gains_little_and_would_gain_more_without_the_ledger():
    losses = []
    for ledger in (Ledger(), Believing()):
        lengths = gate(COMPILED)
        lengths.ledger = ledger
        losses.append(1 / Simulation(lengths, COMPILED, spoil).write(2000).speedup - 1)
    assert losses[0] < 0.03 < losses[1]


@settings(max_examples=25, deadline=None)
@given(
    pattern=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 12)), min_size=1, max_size=12),
    costs=st.sampled_from([COMPILED, FLAT, AS_LARGE]),
    frozen=st.booleans(),
)
def test_whatever_is_accepted_little_is_lost(pattern, costs, frozen):
    steps = [most for rounds, most in pattern for _ in range(rounds)]
    lengths = gate(costs, frozen=frozen)
    run = Simulation(lengths, costs, wrong)
    for turn in range(400):
        run.accept = lambda _, drafted, turn=turn: min(drafted, steps[turn % len(steps)])
        run.round(lengths.next(Text(run.tokens)))
    assert run.seconds <= 1.03 * run.plain + 3 * costs.verify(1)


@pytest.mark.parametrize("rate", [0.3, 0.8])
def test_frozen_decisions_are_a_function_of_the_tokens(rate):
    drafts, live = [], []
    for noise in (0.0, 0.3):
        for found, frozen in ((drafts, True), (live, False)):
            lengths = gate(COMPILED, frozen=frozen)
            run = Simulation(lengths, COMPILED, by_rate(rate), noise=noise)
            if noise:
                run.costs = SLOWER
            found.append(run.write(1000).drafts)
    assert drafts[0] == drafts[1]
    assert live[0] != live[1]


@pytest.mark.parametrize("rate", [0.0, 0.85])
def test_a_machine_that_changes_its_speed_is_followed(rate):
    lengths = gate(SLOWER)
    run = Simulation(lengths, SLOWER, by_rate(rate)).write(500)
    run.costs = COMPILED
    run.write(100)
    before = run.seconds
    run.write(3000)
    assert lengths.prices.plain == pytest.approx(COMPILED.verify(1), rel=0.05)
    assert 3000 * COMPILED.verify(1) / (run.seconds - before) > 0.95 * best_fixed(COMPILED, rate)


def test_where_nothing_pays_it_seldom_looks(monkeypatch):
    lengths, looks = gate(), []
    best = lengths._best_chain
    monkeypatch.setattr(lengths, "_best_chain", lambda *how: looks.append(1) or best(*how))
    run = Simulation(lengths, COMPILED, wrong).write(1000)
    assert len(looks) < 0.2 * len(run.drafts)
    before = len(looks)
    run.accept = by_rate(1.0)  # and yet it notices
    run.write(600)
    assert len(looks) > before + 50
    assert min(run.drafts[-20:]) > 3


def test_a_plain_round_is_met_soon_and_now_and_then():
    """What a draft saves is known only if a plain round was met: here the table is wrong."""
    taken = Costs({width: max(seconds, 6e-3) for width, seconds in COMPILED.verifying.items()})
    lengths = gate(taken, model=False, budget=Budget(3, 3))
    run = Simulation(lengths, COMPILED, by_rate(0.3), lambda n: n, model=False).write(60)
    assert 0 in run.drafts[:12]
    assert lengths.prices.plain == pytest.approx(COMPILED.verify(1), rel=0.3)
    sure = Simulation(gate(FLAT), FLAT, by_rate(0.95)).write(4000)
    plain = [place for place, drafted in enumerate(sure.drafts) if not drafted]
    assert 2 < len(plain) < 0.03 * len(sure.drafts)


def test_frozen_costs_need_no_plain_rounds():
    lengths = GateLength(costs=FLAT, frozen=True)
    run = Simulation(lengths, FLAT, by_rate(0.95)).write(4000)
    assert all(run.drafts)


def test_a_round_another_drafter_drafted():
    lengths = gate(FLAT)
    run = Simulation(lengths, FLAT, by_rate(0.9)).write(100)
    before, plain = lengths._unseen, lengths.prices.plain
    lengths.observe = lambda turn: lengths.look_on(turn, asked=False)
    run.costs = Costs({width: 2 * cost for width, cost in FLAT.verifying.items()}, FLAT.drafting)
    loss = lengths.ledger.loss
    for _ in range(40):
        run.round(Budget.chain(3))
    assert lengths._unseen > before + 40  # none of which its model has read
    assert lengths.ledger.loss == loss  # not its own
    assert lengths.prices.verify(3) == pytest.approx(2 * FLAT.verify(4), rel=0.1)
    assert lengths.prices.plain > 1.5 * plain  # on the same machine


def test_limits_are_those_that_fill_a_step_of_the_staircase():
    steps = {1: 1.0, 2: 1.0, 3: 1.0, 4: 1.02, 5: 1.5, 6: 2.0, 8: 2.05, 16: 3.0, 32: 5.0}
    assert Yields(Budget(63, 63), steps).sizes == [3, 4, 7, 15, 63]
    assert Yields(Budget(2, 2), steps).sizes == [2]
    assert Yields(Budget(5, 5), {1: 1.0}).sizes == [1, 5]


def test_what_is_not_known_of_a_limit_is_as_within_the_one_before():
    yields = Yields(Budget(15, 15), {1: 1.0, 4: 1.1, 8: 2.0, 16: 3.0})
    assert yields.sizes == [3, 7, 15]
    first = yields.gains()
    chains = [sum(0.6**i for i in range(1, size + 1)) for size in yields.sizes]
    assert first == pytest.approx(chains, rel=0.1)
    for _ in range(60):
        yields.observe(turn_of(3, 3), 3, lambda count: 1.0)
    assert yields.gains()[0] > 2.8
    assert yields.gains()[1] > 2 * first[1]
    for _ in range(60):
        yields.observe(turn_of(7, 3), 7, lambda count: 1.0)
    assert yields.gains()[1] < 3.5  # seen, no longer thought


def test_one_slow_round_changes_no_cost():
    lengths = gate(FLAT)
    run = Simulation(lengths, FLAT, by_rate(0.8)).write(200)
    before = [lengths.prices.verify(count) for count in range(13)]
    run.costs = Costs(
        {width: 50 * seconds for width, seconds in FLAT.verifying.items()}, FLAT.drafting
    )
    run.round(lengths.next(Text(100)))
    run.costs = FLAT
    run.write(20)
    after = [lengths.prices.verify(count) for count in range(13)]
    assert after == pytest.approx(before, rel=0.05)


def test_a_table_that_is_wrong_is_corrected():
    steep = Costs({width: 4e-3 * width for width in FLAT.verifying}, FLAT.drafting)
    lengths = gate(FLAT)  # measured on another day
    run = Simulation(lengths, steep, by_rate(0.6)).write(500)
    before = run.seconds
    run.write(500)
    assert 500 * steep.verify(1) / (run.seconds - before) > 0.95


@pytest.mark.parametrize("frozen", [False, True])
def test_a_draft_model_measured_at_a_bad_moment_is_tried_all_the_same(frozen):
    dear = {length: 12 * seconds for length, seconds in FLAT.drafting.items()}
    lengths = gate(Costs(FLAT.verifying, dear), frozen=frozen)
    run = Simulation(lengths, FLAT, by_rate(0.85)).write(200)
    before = run.seconds
    run.write(800)
    # with frozen costs there is no second look
    assert (800 * FLAT.verify(1) / (run.seconds - before) > 1.8) != frozen


def test_tokens_a_stale_drafter_has_to_read_are_in_its_price():
    dear = Costs(FLAT.verifying, FLAT.drafting, catching_up=FLAT.verify(1))
    near, far = gate(dear, frozen=True), gate(dear, frozen=True)
    run = Simulation(far, dear, wrong)
    for _ in range(40):  # plain rounds: nothing is learnt but that the drafter has not read them
        run.round(Budget(0, 0))
    assert near.next(Context([0])).depth > 0
    assert far.next(Context([0])).depth == 0
    lookup = gate(dear, model=False, frozen=True)
    run = Simulation(lookup, dear, wrong, model=False)
    for _ in range(40):
        run.round(Budget(0, 0))
    assert lookup.next(Context([0])).depth > 0


LOOKUP = Costs(COMPILED.verifying)


def rarely(length, every=6):
    """Find a draft in some rounds only."""
    rounds = iter(range(10**9))
    return lambda allowed: min(allowed, length) if next(rounds) % every == 0 else 0


@pytest.mark.parametrize("budget", [None, Budget(63, 63)])
def test_rounds_that_find_no_draft_do_not_count_against_a_lookup(budget):
    lengths = gate(LOOKUP, model=False, budget=budget)
    run = Simulation(lengths, LOOKUP, by_rate(0.95), rarely(7), model=False).write(500)
    asked = [rounds for rounds in run.drafts[-300:] if rounds]
    assert len(asked) > 40
    assert run.speedup > 1.2


@pytest.mark.parametrize("budget", [None, Budget(63, 63)])
def test_a_lookup_that_finds_rubbish_is_not_asked(budget):
    lengths = gate(LOOKUP, model=False, budget=budget)
    run = Simulation(lengths, LOOKUP, wrong, rarely(10, every=2), model=False).write(600)
    assert run.speedup > 0.965
    assert sum(map(bool, run.drafts[300:])) < 0.15 * len(run.drafts[300:])


def test_a_budget_of_its_own_is_cut_where_wide_forwards_do_not_pay():
    lengths = gate(LOOKUP, model=False, budget=Budget(63, 63))
    run = Simulation(lengths, LOOKUP, lambda _, n: min(n, 3), lambda n: n, model=False).write(800)
    # all three accepted, always: now and then a few more are tried
    assert sum(draft != 3 for draft in run.drafts[-400:]) <= 12
    steady = Simulation(lengths, LOOKUP, run.accept, lambda n: n, model=False).write(400)
    assert steady.speedup > 0.95 * 4 * LOOKUP.verify(1) / LOOKUP.verify(4)


def test_what_was_learnt_goes_from_text_to_text_but_not_to_another_pair():
    lengths = gate(FLAT)
    Simulation(lengths, FLAT, by_rate(0.95)).write(300)
    rate = lengths.rates[0]
    lengths.start()
    lengths.attach(*lengths.both)
    assert lengths.rates[0] == rate > 0.85
    lengths.both = Target(), Drafts(FLAT)
    lengths.attach(*lengths.both)
    assert lengths.rates[0] == 0.6


def test_a_drafter_that_never_drafts_is_not_measured():
    class Nothing(Drafts):
        def costs(self, target):
            raise AssertionError("measured")

    lengths = GateLength()
    both = Target(), Nothing(FLAT, Budget(0, 0))
    lengths.attach(*both)
    assert lengths.next(Context([1])) == Budget(0, 0)


def test_what_it_expects_can_be_shown():
    lengths = gate(FLAT)
    run = Simulation(lengths, FLAT, by_rate(0.8)).write(2000)
    shown = lengths.as_dict()
    assert shown["length"] == lengths.length
    rounds = [drafted for drafted in run.drafts if drafted]
    assert lengths.length in rounds[-100:]
    assert shown["speedup"] == pytest.approx(run.speedup, rel=0.15)
    assert len(shown["acceptance"]) == lengths.most


def test_values_out_of_range_are_named():
    with pytest.raises(InvalidArgument, match="draft length 64"):
        GateLength(64)
    with pytest.raises(InvalidArgument, match="does not know what a round costs"):
        GateLength().next(Context([1]))
