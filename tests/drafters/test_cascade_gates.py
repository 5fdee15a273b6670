"""Every source of a cascade has a gate of its own, which is asked before the source is."""

from outpace import Decoder
from outpace.decoder import _default_lengths as default_lengths
from outpace.drafters import Drafter
from outpace.drafters.cascade import CascadeDrafter
from outpace.drafters.model import ModelDrafter
from outpace.drafters.sources import Source
from outpace.lengths.costs import Costs
from outpace.lengths.fixed import FixedLength
from outpace.lengths.gate import GateLength
from outpace.models.tiny import tiny_model
from outpace.types import Budget, TokenTree
from outpace.verifiers.coupled import CoupledVerifier
from outpace.verifiers.rejection import RejectionVerifier

COSTS = Costs({1: 5.0, 2: 5.1, 4: 5.3, 8: 6.0, 16: 8.0, 32: 12.0, 64: 20.0}, {0: 0.0, 1: 0.5})
TOKENS = 200


class Guess(Drafter):
    """Drafts one token over and over, and counts how often it is asked."""

    budget = Budget(63, 63)

    def __init__(self, token=None):
        self.token, self.asked = token, 0

    def propose(self, context, budget, drawing):
        self.asked += 1
        tokens = [] if self.token is None else [self.token] * min(3, budget.nodes)
        return TokenTree.chain(context.tokens[-1], tokens)


def gate(asking=0.0):
    costs = Costs(COSTS.verifying, {0: asking, 1: 0.5 + asking})
    return GateLength(costs=costs, frozen=True)


def write(*sources, **settings):
    target = tiny_model()
    decoder = Decoder(target, CascadeDrafter([*sources]))
    request = {"max_new_tokens": TOKENS, "ignore_eos": True, **settings}
    out = decoder.generate(range(20), **request)
    assert out.tokens == Decoder(target).generate(range(20), **request).tokens
    return out.stats


def test_a_cascade_with_gates_has_none_before_it():
    for lengths in (gate(), None):
        drafter = CascadeDrafter([Source("guess", Guess(3), lengths=lengths)])
        outer = default_lengths(drafter, CoupledVerifier())
        assert drafter.gated is (lengths is not None)
        assert isinstance(outer, FixedLength if drafter.gated else GateLength)


def test_what_never_pays_is_seldom_asked_and_the_next_one_drafts():
    wrong = Guess(3)
    model = Source("model", ModelDrafter(tiny_model()), lengths=gate())  # always right
    stats = write(Source("guess", wrong, lengths=gate()), model)
    assert wrong.asked < 30
    assert stats.rounds < TOKENS / 3
    assert stats.acceptance_rate > 0.8


def test_what_finds_nothing_is_asked_less_and_less():
    nothing = Guess()
    stats = write(Source("guess", nothing, lengths=gate(asking=0.5)))
    assert stats.rounds == TOKENS - 1
    assert nothing.asked < stats.rounds / 2


def test_without_gates_every_source_is_asked_in_every_round():
    wrong, last = Guess(), Guess()
    stats = write(Source("first", wrong), Source("last", last))
    assert wrong.asked == last.asked > 0
    assert stats.rounds == TOKENS - 1


def test_a_model_reads_the_text_when_it_is_its_turn_and_not_before():
    small = tiny_model()
    model = Source("model", ModelDrafter(small), lengths=gate())
    sure = Source("sure", ModelDrafter(tiny_model()), lengths=gate())
    write(sure, model)
    assert model.drafter.forwards == 0 < sure.drafter.forwards


def test_laws_are_drawn_from_as_long_as_ever():
    """Under a rejection verifier a seed repeats its text only if as much is drafted again."""
    target, texts = tiny_model(), []
    for _ in range(2):
        source = Source("model", ModelDrafter(tiny_model(seed=1)), lengths=GateLength(costs=COSTS))
        decoder = Decoder(target, CascadeDrafter([source]), verifier=RejectionVerifier())
        out = decoder.generate(range(20), max_new_tokens=60, temperature=1.0, seed=3)
        texts.append((out.tokens, out.stats.drafted))
    assert texts[0] == texts[1]
    assert texts[0][1] > 0


def test_gates_that_look_seldom_are_not_asked_in_between():
    class Watched(GateLength):
        heard = 0

        def look_on(self, turn, *, asked):
            Watched.heard += 1
            super().look_on(turn, asked=asked)

    costs = Costs(COSTS.verifying, {0: 1.0, 1: 9.0})
    lengths = Watched(costs=costs, frozen=True)
    stats = write(Source("guess", Guess(3), lengths=lengths))
    assert stats.rounds > 0.9 * TOKENS
    assert Watched.heard < 0.6 * stats.rounds
    # and yet every round counts
    assert lengths.ledger.elapsed > 0.8 * stats.rounds
