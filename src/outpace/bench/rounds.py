"""Rounds of the loop as the turns of a report: plain values that JSON can hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..types import Round


def as_turns(
    rounds: Sequence[Round], began: float, texts: Callable[[int], str]
) -> list[dict[str, Any]]:
    """Return each round as the fields of a :class:`~outpace.bench.document.Turn`.

    ``Turn(**fields)`` reads one back, also after it was written as JSON.

    Args:
        rounds: of one text, the prefill first.
        began: when the request was made, in seconds on the decoder's clock.
        texts: the text of a token by its id.

    Returns:
        Fields by name; times are in seconds from ``began``, to the microsecond.
    """
    found = []
    for turn in rounds:
        tokens, parents = turn.tree.lists()
        times = turn.times
        readings = (times.started, times.drafted, times.verified, times.committed)
        found.append(
            {
                "times": [round(reading - began, 6) for reading in readings],
                "nodes": [texts(token) for token in tokens],
                "parents": list(parents),
                "path": list(turn.verdict.path),
                "pieces": list(turn.pieces),
                "kinds": list(turn.kinds),
            }
        )
    return found
