import random

import pytest


def _phrases(length: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    known = [[rng.randrange(200) for _ in range(rng.randrange(3, 30))] for _ in range(40)]
    text: list[int] = []
    while len(text) < length:
        text += rng.choice(known) if rng.random() < 0.8 else [rng.randrange(200)]
    return text[:length]


@pytest.fixture
def phrases():
    """Makes a text of recurring phrases and noise, of so many tokens, from a seed."""
    return _phrases


@pytest.fixture(autouse=True)
def drafting(draft_every_round):
    """These tests are about drafts: all rounds have one."""
