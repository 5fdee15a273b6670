"""Which tokens a session says it holds, checked by the keys that lie there."""

from typing import Any

import pytest
import torch

from outpace.cache.policies import parse_policy
from outpace.cache.session import Session
from outpace.models.tiny import tiny_model

IDS = [(7 * place * place + 3 * place) % 251 for place in range(150)]


@pytest.mark.parametrize(
    "policy",
    [
        "key_norm(keep_ratio=0.5, skip_layers=0, start_after=20, interval=10)",
        "fixed_key_norm(size=16, protected_recent=0, keep=high)",
        "fixed_key_norm(size=16, protected_recent=0.25)",
    ],
)
def test_keys_are_those_of_the_tokens_that_are_named(policy: str) -> None:
    model = tiny_model()
    whole, session = Session(model), Session(model, parse_policy(policy))
    whole.extend(IDS)
    session.extend(IDS)
    dense = whole._cache.layer(0).keys  # of the first layer: a token and its position decide
    assert dense is not None
    assert session._forgetting is not None
    places: Any = session._forgetting._places
    group = places._groups[0]
    places._take_in(group, session._slots)
    where = places._where(group, session._slots, session._cache)
    keys = group.part(session._cache).keys[where]
    for head in range(2):
        named = dense[torch.tensor(whole._slots.slots)[group.indices[:, head]], head]
        torch.testing.assert_close(keys[:, head], named, rtol=0, atol=1e-4)
