"""Cache policies from their text: ``streaming(sinks=4, recent=508)``, ``h2o(256) + …``."""

from __future__ import annotations

from ...calls import parse_call, split
from ...errors import InvalidArgument
from ...registry import get
from .base import CachePolicy
from .composed import ComposedPolicy

EXAMPLE = "streaming(sinks=4, recent=508)"


def parse_policy(text: str) -> CachePolicy:
    """Return the policy a text names; several with ``+`` between them are composed.

    Raises:
        UnknownName: no such policy or setting.
        InvalidArgument: it cannot be read, or a value out of range.
    """
    parts = [_policy(part) for part in split(text, "+")]
    return parts[0] if len(parts) == 1 else ComposedPolicy(tuple(parts))


def make_policy(policy: str | CachePolicy | None) -> CachePolicy | None:
    """Return a policy from its text, or the one given; None and ``full`` are no policy.

    Raises:
        InvalidArgument: neither.
    """
    if isinstance(policy, str):
        policy = parse_policy(policy)
    if policy is None or str(policy) == "full":
        return None
    if not isinstance(policy, CachePolicy):
        raise InvalidArgument(f"cache policy {policy!r}: give one, or its text, as in {EXAMPLE}")
    return policy


def _policy(text: str) -> CachePolicy:
    call = parse_call(text, f"cache policy {text.strip()!r}", EXAMPLE, positional=True)
    make = get("policy", call.name)
    made: CachePolicy = make(**call.settings(make))
    return made
