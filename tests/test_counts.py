"""What a round may cost, counted on one workload with frozen costs: it must not grow unseen.

A time is noise where tests run; forwards, waits for the device, graphs and tensors made are not.
"""

from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from outpace import Decoder
from outpace.drafters.model import ModelDrafter
from outpace.lengths.costs import Costs
from outpace.lengths.gate import GateLength
from outpace.models import LanguageModel
from outpace.models.graphs import GraphRuntime
from outpace.models.tiny import tiny_model

COSTS = Costs(
    {1: 5.0, 2: 5.0, 4: 5.2, 8: 5.6, 16: 6.6, 32: 8.0, 64: 10.6}, {0: 0.0, 1: 0.5, 2: 1.0}
)
TOKENS = 120
WAITS = ("tolist", "item", "__int__", "__float__", "__bool__", "__index__", "cpu")


class _Operations(TorchDispatchMode):
    """Counts operations outside of the models: each makes a tensor, or launches a kernel."""

    def __init__(self):
        super().__init__()
        self.count, self.inside = 0, False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not self.inside
        return function(*args, **(kwargs or {}))


@contextmanager
def counted():
    """Count forwards by model name, waits of the host, and operations outside of forwards."""
    found, operations = Counter(), _Operations()
    with pytest.MonkeyPatch.context() as patch:
        for name in WAITS:
            original = getattr(torch.Tensor, name)

            def waiting(self, *given, original=original, **settings):
                found["waits"] += not operations.inside
                return original(self, *given, **settings)

            patch.setattr(torch.Tensor, name, waiting)
        forward = LanguageModel.forward

        def forwarding(self, *given, **settings):
            found[self.name] += 1
            operations.inside = True
            try:
                return forward(self, *given, **settings)
            finally:
                operations.inside = False

        patch.setattr(LanguageModel, "forward", forwarding)
        with operations:
            yield found
        found["operations"] = operations.count


def named(name, **settings):
    model = tiny_model(**settings)
    model.name = name
    return model


def run(drafter, **settings):
    gate = GateLength(costs=COSTS, frozen=True)
    decoder = Decoder(named("target"), drafter, lengths=gate)
    request = {"max_new_tokens": TOKENS, "ignore_eos": True, **settings}
    decoder.generate(range(20), **request)  # what is made once is made
    with counted() as found:
        out = decoder.generate(range(20), **request)
    return found, out.stats


def test_a_plain_round():
    found, stats = run(None)
    assert stats.rounds == TOKENS - 1
    assert found["target"] == TOKENS
    assert found["waits"] <= stats.rounds + 3
    assert found["operations"] <= 7 * stats.rounds + 60


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.8}])
def test_a_round_with_a_draft_model(settings):
    found, stats = run(ModelDrafter(named("drafter")), **settings)
    assert found["target"] == stats.rounds + 1
    assert found["drafter"] == stats.drafted + 1
    assert stats.rounds <= 24  # what the gate decides is a function of the tokens
    assert found["waits"] <= stats.rounds + 3
    each, step = (14, 6) if not settings else (24, 8)
    assert found["operations"] <= each * stats.rounds + step * stats.drafted + 80


def test_a_rejecting_target_has_the_drafter_stopped():
    found, stats = run(ModelDrafter(named("drafter", seed=9)))
    assert found["target"] == stats.rounds + 1 <= TOKENS
    assert found["drafter"] <= 40


def test_captures_are_few_and_only_once():
    def capture(function, given):
        with torch.inference_mode():
            out = function(*given)
        return lambda: out.copy_(function(*given)), out

    target, small = named("target"), named("drafter")
    for model in (target, small):
        model._runtime = GraphRuntime(model.step, capture=capture)
    gate = GateLength(costs=COSTS, frozen=True)
    decoder = Decoder(target, ModelDrafter(small), lengths=gate)
    for _ in range(2):
        decoder.generate(range(20), max_new_tokens=TOKENS, ignore_eos=True)
    before = target._runtime.captures, small._runtime.captures
    assert before[0] <= 12
    assert before[1] <= 16
    decoder.drafter.reset()
    decoder.generate(range(20), max_new_tokens=TOKENS, ignore_eos=True)
    assert (target._runtime.captures, small._runtime.captures) == before


def test_the_counting_counts():
    """The negative control: a wait and some operations more a round are seen."""

    class Wasteful(ModelDrafter):
        def propose(self, context, budget, drawing):
            tree = super().propose(context, budget, drawing)
            int(torch.ones(2).sum() + tree.tokens.sum())
            return tree

    less, stats = run(ModelDrafter(named("drafter")))
    more, _ = run(Wasteful(named("drafter")))
    assert more["waits"] >= less["waits"] + stats.rounds
    assert more["operations"] >= less["operations"] + 4 * stats.rounds
