"""Loads the models of a chat, with a word on which one it is."""

from collections.abc import Callable
from typing import Any

from ...models import LanguageModel, load


class Loader:
    """What :class:`outpace.chat.Methods` loads models with.

    Args:
        say: told what is done now; another one whenever something else shows it.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say

    def __call__(self, name: str, **options: Any) -> LanguageModel:
        """Load a model, see :func:`outpace.models.load`."""
        self.say(f"loading {name}")
        try:
            return load(name, **options)
        finally:
            self.say("warming up")
