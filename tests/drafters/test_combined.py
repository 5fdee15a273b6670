"""Drafters made of drafters: who drafts, who learns, and what a bandit settles on."""

from types import SimpleNamespace

import pytest

from outpace import Decoder
from outpace.drafters import Drafter
from outpace.drafters.bandit import BanditDrafter
from outpace.drafters.cascade import CascadeDrafter
from outpace.drafters.model import ModelDrafter
from outpace.drafters.ngram import NgramDrafter
from outpace.drafters.sources import Source
from outpace.drafters.tree import TreeDrafter
from outpace.errors import InvalidArgument
from outpace.models.precision import quantized
from outpace.models.tiny import tiny_model
from outpace.types import Budget, Context, Round, Times, TokenTree, Verdict

GREEDY = SimpleNamespace(sampler=SimpleNamespace(greedy=True))
SAMPLED = SimpleNamespace(sampler=SimpleNamespace(greedy=False))


class Says(Drafter):
    """Drafts the same tokens every round, or nothing."""

    def __init__(self, *drafted):
        self.drafted = drafted
        self.learnt = 0

    def propose(self, context, budget, drawing):
        return TokenTree.chain(context.tokens[-1], self.drafted[: budget.depth])

    def observe(self, context, turn):
        self.learnt += 1


def made(kind, *sources):
    return kind([Source(f"s{number}", one) for number, one in enumerate(sources)])


def played(drafter, worth, rounds):
    """Let sources draft; ``worth`` says how long the round of each takes. Return who drafted."""
    context, went = Context([1, 2, 3]), []
    drafter.start(context)
    for index in range(1, rounds + 1):
        tree = drafter.propose(context, Budget.chain(5), GREEDY)
        token = tree.lists()[0][1] if len(tree) > 1 else 0
        went.append(token)
        verdict = Verdict([], [7], [])
        times = Times(0.0, 0.0, worth(token, index), worth(token, index))
        drafter.observe(context, Round(index, tree, verdict, (7,), ("plain",), ("",), times))
    return went


def test_the_first_with_a_draft_drafts_and_all_learn():
    silent, one, two = Says(), Says(5), Says(6)
    drafter = made(CascadeDrafter, silent, one, two)
    assert played(drafter, lambda token, index: 1.0, 3) == [5, 5, 5]
    assert [one.learnt for one in (silent, one, two)] == [3, 3, 3]


def test_nobody_has_a_draft():
    assert played(made(CascadeDrafter, Says()), lambda token, index: 1.0, 2) == [0, 0]


def test_a_source_gets_no_more_than_its_budget():
    drafter = CascadeDrafter([Source("one", Says(1, 2, 3, 4), Budget.chain(2))])
    context = Context([9])
    assert len(drafter.propose(context, Budget.chain(5), None)) == 3
    assert len(drafter.propose(context, Budget.chain(1), None)) == 2
    assert len(drafter.propose(context, Budget(0, 0), None)) == 1


@pytest.mark.parametrize("best", [1, 2, 3, 0])
def test_the_bandit_settles_on_the_fastest(best):
    def worth(token, index):
        return 0.5 if token == best else 1.0

    went = played(made(BanditDrafter, Says(1), Says(2), Says(3)), worth, 300)
    assert set(went) == {0, 1, 2, 3}  # each is tried, writing without a draft too
    assert went[100:].count(best) > 0.9 * len(went[100:])


def test_the_bandit_notices_that_the_fastest_has_changed():
    def worth(token, index):
        return 0.5 if token == (1 if index <= 150 else 2) else 1.0

    went = played(made(BanditDrafter, Says(1), Says(2)), worth, 400)
    assert went[50:150].count(1) > 80
    assert went[300:].count(2) > 80


def test_what_the_bandit_learnt_outlives_a_reset():
    drafter = made(BanditDrafter, Says(1), Says(2))
    played(drafter, lambda token, index: 0.5 if token == 2 else 1.0, 100)
    drafter.reset()
    assert drafter.rates["s1"] > 1.5 * drafter.rates["s0"]
    assert played(drafter, lambda token, index: 0.5 if token == 2 else 1.0, 20).count(2) > 15


def test_a_source_is_judged_by_what_it_promises():
    """Long drafts that are accepted, short ones that are not: one source, two arms."""

    class Moody(Says):
        def propose(self, context, budget, drawing):
            self.long = not getattr(self, "long", False)
            return TokenTree.chain(context.tokens[-1], [1] * 5 if self.long else [2])

    def worth(token, index):
        return {1: 0.2, 2: 2.0, 3: 1.0, 0: 1.5}[token]

    class Model(Says):
        models = ("one",)  # asked only when it is chosen

    went = played(BanditDrafter([Source("moody", Moody()), Source("m", Model(3))]), worth, 200)
    assert set(went[100::2]) == {1}
    assert went[101::2].count(3) > 45


def test_a_slow_moment_is_nobodys_fault():
    """The machine is three times slower while the better source is tried."""
    drafter = made(BanditDrafter, Says(1), Says(2))

    def worth(token, index):
        return (0.5 if token == 1 else 1.0) * (3 if 60 <= index < 160 else 1)

    went = played(drafter, worth, 260)
    assert went[60:].count(1) > 0.9 * len(went[60:])
    assert drafter.rates["s0"] > 1.5 * drafter.rates["s1"]


def test_the_usual_sources_have_a_copy_of_the_target_where_there_can_be_one():
    def names(drafter, target):
        request = {"max_new_tokens": 30, "ignore_eos": True, "temperature": 0.9, "seed": 1}
        plain = Decoder(target).generate(range(20), **request)
        assert Decoder(target, drafter).generate(range(20), **request).tokens == plain.tokens
        return [source.name for source in drafter.sources]

    target = tiny_model()
    assert names(BanditDrafter(), target) == ["suffix", "quantized-self"]
    assert names(BanditDrafter(copy=False), target) == ["suffix"]
    assert names(BanditDrafter(), quantized(target, "int8")) == ["suffix"]
    model = tiny_model(seed=1)
    assert names(BanditDrafter(model=model), target) == ["suffix", "model"]
    drafter = BanditDrafter()
    Decoder(target, drafter)
    with pytest.raises(InvalidArgument, match="drafts for a tiny random model already"):
        Decoder(tiny_model(seed=2), drafter)


def test_greedy_and_sampled_texts_are_told_apart():
    drafter = made(BanditDrafter, Says(1))
    played(drafter, lambda token, index: 0.1 if token else 1.0, 50)
    context = Context([1, 2, 3])
    for drawing, worth in ((SAMPLED, 9.0), (GREEDY, 0.1)):
        for _ in range(60):
            tree = drafter.propose(context, Budget.chain(5), drawing)
            seconds = worth if len(tree) > 1 else 1.0
            times = Times(0.0, 0.0, seconds, seconds)
            turn = Round(1, tree, Verdict([], [7], []), (7,), ("plain",), ("",), times)
            drafter.observe(context, turn)
        assert (len(tree) > 1) == (drawing is GREEDY)


def test_no_room_is_no_draft():
    drafter = made(BanditDrafter, Says(1))
    assert len(drafter.propose(Context([1]), Budget(0, 0), GREEDY)) == 1


def test_a_tree_follows_its_own_rounds_only():
    small = tiny_model()
    tree = TreeDrafter(small, "fixed(depth=3, branch=1) + history(window=1, target=1, band=0)")
    drafter = CascadeDrafter([Source("says", Says(5)), Source("tree", tree)])
    Decoder(tiny_model(), drafter).generate(range(20), max_new_tokens=20, ignore_eos=True)
    assert tree._steering.shape_for("deterministic").depth == 3


@pytest.mark.parametrize("kind", [CascadeDrafter, BanditDrafter])
def test_a_model_that_sat_out_catches_up(kind):
    target = tiny_model()
    drafter = kind([Source("ngram", NgramDrafter(3)), Source("model", ModelDrafter(tiny_model()))])
    request = {"max_new_tokens": 120, "ignore_eos": True, "temperature": 0.7, "seed": 2}
    out = Decoder(target, drafter).generate(range(20), **request)
    assert out.tokens == Decoder(target).generate(range(20), **request).tokens
    assert out.stats.accepted > 0


@pytest.mark.parametrize("kind", [CascadeDrafter, BanditDrafter])
def test_no_sources_or_one_twice_are_refused(kind):
    with pytest.raises(InvalidArgument, match="give one or more, each once"):
        kind([])
    with pytest.raises(InvalidArgument, match="a, a"):
        kind([Source("a", Says()), Source("a", Says())])


@pytest.mark.parametrize(
    "settings", [{"idle": 0}, {"fading": 2}, {"bonus": -1}, {"bonus": float("inf")}]
)
def test_weights_out_of_range(settings):
    with pytest.raises(InvalidArgument, match=r"bandit: \w+ [-\d.inf]+: give 0"):
        BanditDrafter(**settings)


def test_a_clock_that_stands_still_stops_nobody():
    went = played(made(BanditDrafter, Says(1), Says(2)), lambda token, index: 0.0, 50)
    assert len(went) == 50


@pytest.mark.parametrize("kind", [CascadeDrafter, BanditDrafter])
def test_a_model_reads_the_text_when_it_is_its_turn(kind):
    target, model = tiny_model(), ModelDrafter(tiny_model(seed=1))
    drafter = kind([Source("says", Says(5)), Source("model", model)])
    request = {"max_new_tokens": 1, "ignore_eos": True}
    Decoder(target, drafter).generate(range(20), **request)
    assert model.forwards == 0
    Decoder(target, drafter).generate(range(20), max_new_tokens=2, ignore_eos=True)
    assert model.forwards == 0  # the last round has no room for a draft
    cascade = CascadeDrafter([Source("says", Says()), Source("model", model)])
    Decoder(target, cascade).generate(range(20), max_new_tokens=3, ignore_eos=True)
    assert model.forwards > 0


def test_before_it_has_met_a_target_a_drafter_made_of_it_has_nothing():
    drafter = BanditDrafter()
    drafter.reset()
    assert (drafter.models, drafter.forwards, drafter.kv_bytes) == ((), 0, 0)
