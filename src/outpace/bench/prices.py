"""What the parts of rounds cost here, measured apart from any text."""

from collections.abc import Sequence
from typing import Any

from ..cache.costs import plain_forward, round_parts
from ..models import LanguageModel

LENGTHS = (1, 2, 3, 4, 5, 7)
"""Draft tokens in a row that are timed."""


def prices(target: LanguageModel, drafters: Sequence[LanguageModel]) -> dict[str, Any]:
    """Return seconds, by the names of models, as a record can hold them.

    Of the target ``forward``: one token in plain decoding. Of each draft model ``draft``, by
    length, and ``verify``, by width: the target's forward after that draft.

    Args:
        target: whose text is written.
        drafters: draft models.
    """
    found: dict[str, Any] = {target.name: {"forward": plain_forward(target)}}
    for drafter in drafters:
        drafting, verifying = round_parts(target, drafter, LENGTHS)
        found[drafter.name] = {
            "draft": {str(length): cost for length, cost in drafting.items()},
            "verify": {str(width): cost for width, cost in verifying.items()},
        }
    return found
