"""Texts written again with other draft lengths."""

import pytest

from outpace import Decoder
from outpace.bench.replay import Trace, replay, trace
from outpace.drafters.model import ModelDrafter
from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.lengths.costs import Costs
from outpace.lengths.fixed import FixedLength
from outpace.lengths.gate import GateLength

COSTS = Costs({1: 10.0, 2: 11.0, 4: 12.0, 8: 15.0, 16: 20.0}, {0: 0.5, 1: 1.5, 2: 2.5}, 0.25)
PROMPT = [5, 6, 7, 5, 6, 7, 5, 6]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("length", [1, 3])
def test_rounds_are_those_of_the_decoder(pair, temperature, length):
    target, model = pair("llama")
    settings = {"max_new_tokens": 40, "temperature": temperature, "seed": 3, "ignore_eos": True}
    drafters = [ModelDrafter(model), PromptLookupDrafter()]
    for text, drafter in zip(trace(target, drafters, PROMPT, **settings), drafters, strict=True):
        again = replay(text, FixedLength(length), COSTS)
        stream = Decoder(target, drafter, lengths=FixedLength(length)).stream(PROMPT, **settings)
        assert again.lengths == tuple(turn.drafted for turn in stream)[1:]
        assert again.tokens == 39


def test_seconds_are_those_of_the_rounds():
    text = Trace(3, [4, 4, 0, 4, 4, 4], [2, 0, 0, 0, 1, 0])
    again = replay(text, FixedLength(2), COSTS)
    # two of two accepted; then a token to catch up; none of two; the last is drafted
    assert again.lengths == (2, 2, 1)
    assert again.seconds == pytest.approx((2.5 + 12) + (2.5 + 0.25 + 12) + (1.5 + 11))


def test_a_gate_may_write_it_too():
    text = Trace(1, [12] * 400, [12] * 400)
    gate = GateLength(costs=COSTS)
    assert replay(text, gate, COSTS).seconds < 0.4 * 400 * 10
    nothing = Trace(1, [12] * 400, [0] * 400)
    assert replay(nothing, GateLength(costs=COSTS), COSTS).seconds < 400 * 10 / 0.97
    assert replay(nothing, FixedLength(4), COSTS).seconds > 400 * 10 / 0.97
