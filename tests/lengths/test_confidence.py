"""Drafts that end where the draft model is unsure."""

import pytest

from outpace import Decoder
from outpace.drafters.model import ModelDrafter
from outpace.errors import InvalidArgument
from outpace.lengths.confidence import ConfidenceLength
from outpace.testing import check_lengths
from outpace.types import Budget, Context


def test_contract():
    check_lengths(ConfidenceLength)


def drafted(pair, tau):
    target, model = pair("llama")
    decoder = Decoder(target, ModelDrafter(model), lengths=ConfidenceLength(tau, most=6))
    stream = decoder.stream([3, 1, 4, 1, 5], max_new_tokens=24, ignore_eos=True)
    rounds = [turn.drafted for turn in stream]
    plain = Decoder(target).generate([3, 1, 4, 1, 5], max_new_tokens=24, ignore_eos=True)
    assert stream.output.tokens == plain.tokens
    return rounds[1:-6]  # the last ones are cut by the end of the text


def test_the_token_it_is_unsure_of_is_the_last(pair):
    assert set(drafted(pair, 1.0)) == {1}
    assert set(drafted(pair, 0.0)) == {6}
    some = drafted(pair, 0.02)
    assert min(some) >= 1


def test_where_it_stops_depends_on_tau(pair):
    means = []
    for tau in (0.0, 0.004, 0.02, 1.0):
        rounds = drafted(pair, tau)
        means.append(sum(rounds) / len(rounds))
    assert means == sorted(means, reverse=True)
    assert means[0] > means[-1]


def test_clipping_keeps_the_confidence():
    budget = ConfidenceLength(0.3).next(Context([1]))
    assert budget == Budget(12, 12, 0.3)
    assert budget.clip(4).confidence == 0.3


@pytest.mark.parametrize("tau", [-0.1, 1.5])
def test_tau_is_a_probability(tau):
    with pytest.raises(InvalidArgument, match=f"tau {tau}"):
        ConfidenceLength(tau)
