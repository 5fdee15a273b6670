"""What was said: messages, their answers and the system text, as a value that a file can hold."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InvalidArgument
from ..folders import read_given, write_whole
from ..version import __version__

FORMAT = 1
"""Of the file; it grows when a field changes its meaning."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A message and its answer.

    Attributes:
        message: what was asked.
        answer: what was written.
        tokens: the ids the answer was written with, in the target's vocabulary; empty where its
            text alone is known.
    """

    message: str
    answer: str
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """Exchanges in a row; a value, so that what was before a change is still there.

    Attributes:
        system: what the model is told before everything else; empty for nothing.
        exchanges: the oldest first.
    """

    system: str = ""
    exchanges: tuple[Exchange, ...] = ()

    def __len__(self) -> int:
        return len(self.exchanges)

    def answered(self, message: str, answer: str, tokens: tuple[int, ...] = ()) -> Conversation:
        """Return the conversation with one exchange more."""
        return replace(self, exchanges=(*self.exchanges, Exchange(message, answer, tokens)))

    def without_last(self) -> Conversation:
        """Return the conversation without its last exchange."""
        return replace(self, exchanges=self.exchanges[:-1])

    def without_first(self, count: int) -> Conversation:
        """Return the conversation without its oldest exchanges."""
        return replace(self, exchanges=self.exchanges[count:])

    def as_text(self) -> Conversation:
        """Return the same with texts alone, as for a target that numbers tokens in another way."""
        plain = tuple(replace(one, tokens=()) for one in self.exchanges)
        return replace(self, exchanges=plain)

    def write(self, path: str | os.PathLike[str], *, target: str = "") -> None:
        """Write the texts to a file, whole or not at all.

        A file that is there is replaced only if it holds a conversation.

        Args:
            path: of the file.
            target: the model that answered, for the reader.

        Raises:
            InvalidArgument: it cannot be written, or is something else.
        """
        place = Path(path).expanduser()
        if os.path.exists(place) and not _is_empty(place):
            try:
                Conversation.read(place)
            except InvalidArgument as error:
                raise InvalidArgument(
                    f"{os.fspath(path)} is there and holds no conversation: give another name"
                ) from error
        record = {
            "format": FORMAT,
            "outpace": __version__,
            "target": target,
            "system": self.system,
            "exchanges": [{"message": one.message, "answer": one.answer} for one in self.exchanges],
        }
        try:
            write_whole(place, json.dumps(record, indent=1, ensure_ascii=False))
        except (OSError, ValueError) as error:  # ValueError: a name no file can have
            why = getattr(error, "strerror", None) or str(error)
            raise InvalidArgument(
                f"{os.fspath(path)} cannot be written ({why}): give another place"
            ) from error

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Conversation:
        """Return the conversation in a file.

        Raises:
            InvalidArgument: no such file, or it holds no conversation.
        """
        where = os.fspath(path)
        text = read_given(path, where, "give one that was saved from a conversation")
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _no_conversation(where) from error
        return _conversation(where, record)


def _conversation(where: str, record: Any) -> Conversation:
    if not _is_table(record) or not isinstance(record.get("exchanges"), list):
        raise _no_conversation(where)
    version = record.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise InvalidArgument(
            f"{where}: format {version} is newer than {FORMAT}, the latest known here: install a "
            "newer Outpace"
        )
    system = record.get("system", "")
    exchanges = []
    for one in record["exchanges"]:
        message, answer = (one.get("message"), one.get("answer")) if _is_table(one) else ("", None)
        if not (isinstance(message, str) and isinstance(answer, str)):
            raise _no_conversation(where)
        exchanges.append(Exchange(message, answer))
    if not isinstance(system, str):
        raise _no_conversation(where)
    return Conversation(system, tuple(exchanges))


def _is_empty(place: Path) -> bool:
    return place.is_file() and not place.stat().st_size


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _no_conversation(where: str) -> InvalidArgument:
    return InvalidArgument(
        f"{where} holds no conversation: give a file that was saved from a conversation"
    )
