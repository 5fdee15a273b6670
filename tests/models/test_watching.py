import pytest

from outpace.models import load
from outpace.models.watching import watched


def test_weights_are_counted() -> None:
    seen: list[tuple[int, int]] = []
    with watched(lambda done, total: seen.append((done, total))):
        model = load("zoo:small", dtype="float32")
    total = seen[-1][1]
    assert seen == [(done, total) for done in range(total + 1)]
    assert total == len(model.model.state_dict()) - _tied(model)
    load("zoo:small", dtype="float32")  # the negative control: nobody is told any more
    assert len(seen) == total + 1


def test_whoever_watched_before_watches_again() -> None:
    outer: list[int] = []
    with watched(lambda done, total: outer.append(done)):
        with pytest.raises(KeyboardInterrupt), watched(lambda done, total: None):
            raise KeyboardInterrupt
        load("zoo:small", dtype="float32")
    assert outer


def _tied(model: object) -> int:
    return int(bool(model.config.tie_word_embeddings))  # type: ignore[attr-defined]
