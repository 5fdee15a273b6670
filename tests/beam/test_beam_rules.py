"""The rules of a beam search, and its refusals."""

import math

import pytest

from outpace import Decoder
from outpace.beam import BeamRules
from outpace.errors import InvalidArgument
from outpace.models.tiny import tiny_model


def test_the_two_penalties():
    power, gnmt = BeamRules(length_penalty=0.5), BeamRules(penalty="gnmt")
    assert power.score(-6.0, 4) == -3.0
    assert gnmt.alpha == 1.2
    assert gnmt.score(-6.0, 7) == pytest.approx(-6.0 / 2.0**1.2)
    assert gnmt.score(-6.0, 1) == -6.0  # the penalty begins at one
    assert BeamRules().alpha == 1.0


def test_no_penalty_is_the_log_probability():
    for length in (1, 5, 100):
        assert BeamRules(length_penalty=0.0).score(-6.0, length) == -6.0


def test_how_many_continuations_are_looked_at():
    rules = BeamRules(4)
    assert [rules.offers(ends) for ends in range(4)] == [8, 8, 12, 16]


@pytest.mark.parametrize(
    ("stopping", "penalty", "best", "over"),
    [
        (True, 1.0, -1.0, True),  # however good the living beams are
        (False, 1.0, -5.0, False),  # -5 / 5 is better than -2
        (False, 1.0, -10.0, True),  # -10 / 5 is not
        ("never", 1.0, -10.0, False),  # but -10 / 20 would be
        ("never", 1.0, -41.0, True),
        ("never", -1.0, -10.0, True),  # a penalty on length: never better than now
        ("never", 0.0, -1.0, False),
    ],
)
def test_when_it_is_over(stopping, penalty, best, over):
    rules = BeamRules(2, penalty, stopping)
    assert rules.is_over([-1.0, -2.0], best, 5, 20) == over
    assert not rules.is_over([-1.0], best, 5, 20)  # one more text is wanted in any case


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_beams": 0}, "0 beams: give a whole number from 1 to 64"),
        ({"num_beams": 65}, "65 beams: give a whole number from 1 to 64"),
        ({"num_beams": True}, "True beams"),
        ({"num_beams": 2.0}, "2.0 beams"),
        ({"num_return_sequences": 5}, "5 texts of 4 beams: give a whole number from 1 to 4"),
        ({"num_return_sequences": 0}, "0 texts of 4 beams"),
        ({"length_penalty": math.nan}, "length penalty nan: give a number from -20 to 20"),
        ({"length_penalty": -math.inf}, "length penalty -inf: give a number"),
        ({"length_penalty": "1"}, "length penalty '1': give a number"),
        ({"penalty": "cubic"}, "kind 'cubic': choose one of power, gnmt"),
        ({"early_stopping": "always"}, "early stopping 'always': give True, False or"),
        ({"early_stopping": 1}, "early stopping 1"),
        ({"top_k": 0}, "top-k 0 of a beam: give 1 or more"),
        ({"max_new_tokens": 0}, "0 new tokens to make: give 1 or more"),
        ({"repetition_penalty": math.inf}, "repetition penalty inf: give a number above 0"),
        ({"session": 1}, "session 1: make one with"),
    ],
)
def test_refusals(settings, said):
    with pytest.raises(InvalidArgument) as caught:
        Decoder(tiny_model()).beams("a", **settings)  # at once, not at the first step
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_has_no_meaning_is_no_argument():
    with pytest.raises(TypeError, match="temperature"):
        Decoder(tiny_model()).beams("a", temperature=0.7)
