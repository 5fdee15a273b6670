"""What the parts of rounds cost here, measured apart from any text."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ..cache.costs import plain_forward, round_parts
from ..models import LanguageModel

LENGTHS = (1, 2, 3, 4, 5, 7)
"""Draft tokens in a row that are timed."""
ROUNDS, FORWARDS = 2, 8
"""How often: little, next to each prompt, rather than much at one moment of a shared machine."""


def prices(target: LanguageModel, drafters: Sequence[LanguageModel]) -> dict[str, Any]:
    """Return seconds, by the names of models, as a record can hold them.

    Of the target ``forward``: one token in plain decoding. Of each draft model ``draft``, by
    length, and ``verify``, by width: the target's forward after that draft.

    Args:
        target: whose text is written.
        drafters: draft models.
    """
    found: dict[str, Any] = {target.name: {"forward": plain_forward(target, rounds=FORWARDS)}}
    for drafter in drafters:
        drafting, verifying = round_parts(target, drafter, LENGTHS, rounds=ROUNDS)
        found[drafter.name] = {
            "draft": {str(length): cost for length, cost in drafting.items()},
            "verify": {str(width): cost for width, cost in verifying.items()},
        }
    return found


def mean_prices(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means of prices that were measured at several moments."""
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in each for key in one):
        values = [one[key] for one in each if key in one]  # a later run may have more models
        nested = isinstance(values[0], Mapping)
        found[key] = mean_prices(values) if nested else statistics.fmean(values)
    return found
