from typing import Any

import pytest
from talking import Loads, Start

from outpace.chat import Chat, Methods
from outpace.recipe import Recipe


@pytest.fixture
def loads() -> Loads:
    """Loads tiny models by any name that is no method, and remembers which."""
    return Loads()


@pytest.fixture
def start(loads: Loads) -> Start:
    """Begin a chat of tiny models."""

    def made(
        *enabled: str, template: str | None = None, drafter: str = "other", **settings: Any
    ) -> Chat:
        loads.template = template
        recipe = Recipe(target="one", drafter=drafter, dtype="float32", draft_length=3)
        chat = Chat(Methods(recipe, load=loads), **{"length": 12, **settings})
        chat.enable(enabled or ("speculative",))
        return chat

    return made
