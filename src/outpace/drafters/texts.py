"""What a drafter holds for each text under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from ..types import Context

Held = TypeVar("Held", bound=Sized)


class Texts(Generic[Held]):
    """One thing for each text, of which ``len`` says how many tokens of the text it has read.

    It goes with the text, and nobody else's text is given it: streams of several users can take
    turns on one drafter. Only a text that goes on where another one stopped takes over what that
    one had, and only if it begins with all that was read of it.

    Args:
        make: returns a new one, nothing read.
    """

    def __init__(self, make: Callable[[], Held]) -> None:
        self._make = make
        self._held: WeakKeyDictionary[Context, Held] = WeakKeyDictionary()

    def __getitem__(self, context: Context) -> Held:
        """Return what there is for a text, made now if need be."""
        held = self._held.get(context)
        if held is None:
            held = self._held[context] = self._make()
        return held

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    def start(self, context: Context, *, resume: bool) -> Held:
        """Return what there is for a text that begins, or goes on with ``resume``.

        Of the texts that it may be the continuation of, the longest counts. That one's own context
        gives it up: should it ever be served again, it is read again.
        """
        if resume and context not in self._held:
            known = sorted(self._held.items(), key=lambda item: -len(item[1]))
            for before, held in known:
                if context.tokens[: len(held)] == before.tokens[: len(held)]:
                    self._held[context] = self._held.pop(before)
                    break
        return self[context]

    def clear(self) -> None:
        """Forget all texts."""
        self._held.clear()
