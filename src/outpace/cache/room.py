"""How many slots a session has for a text of some length: pure arithmetic."""

from __future__ import annotations

import sys

from .policies import CachePolicy
from .slots import SPARE, bucket


def most_slots(policy: CachePolicy | None) -> int:
    """Return how many slots will ever be needed with a policy; without an end, the largest."""
    size = None if policy is None else policy.size
    if policy is None or size is None:
        return sys.maxsize
    return size + policy.block + SPARE


def capacity(slots: int, policy: CachePolicy | None = None) -> int:
    """Return how many slots to have where so many are needed, with a policy no more than ever."""
    return max(slots, min(bucket(slots), most_slots(policy) + 1))


def slots_for(length: int, room: int = 0, policy: CachePolicy | None = None) -> int:
    """Return how many slots a session has that holds a text.

    Args:
        length: of what is prefilled, in tokens.
        room: slots asked for beyond it.
        policy: what is forgotten; None is nothing.
    """
    needed = min(length + room, most_slots(policy))
    # one more: rows that only fill a static width lie in the last
    return max(capacity(bucket(1), None), capacity(needed + 1, policy))
