"""What readers of prompts hand over, and what they share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..errors import PromptError

T = TypeVar("T")
Row = dict[str, Any]
"""A line of a file or a row of a data set: column → value."""


class Found(NamedTuple):
    """A text that can become a prompt.

    Attributes:
        name: of the text in its workload.
        text: what is said first, or a longer text of which the beginning is used.
        turns: what is said next, after each answer.
        passage: use its first tokens alone, as many as are asked for.
    """

    name: str
    text: str
    turns: tuple[str, ...] = ()
    passage: bool = False


def as_turns(value: object) -> tuple[str, ...] | None:
    """Return the turns that a text or a list of texts is; None where it is neither.

    Texts that are empty or cannot be encoded (JSON may hold halves of characters) are none.
    """
    turns = value if isinstance(value, list | tuple) else [value]
    for turn in turns:
        if not isinstance(turn, str) or not turn:
            return None
        if any("\ud800" <= character <= "\udfff" for character in turn):
            return None
    return tuple(turns) or None


def spread(items: Sequence[T], limit: int) -> list[T]:
    """Return ``limit`` items at equal distances, or all."""
    if limit >= len(items):
        return list(items)
    count = limit
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def read(path: Path) -> str:
    """Return what a file says, without a mark of its byte order.

    Raises:
        PromptError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(f"{path} cannot be read as text: give a UTF-8 file") from error
    except OSError as error:
        raise PromptError(f"{path}: {error.strerror}: give a file that can be read") from error


def lines(text: str) -> list[str]:
    """Return the lines of a JSON Lines text, whose strings may hold other ends of lines."""
    return text.removesuffix("\n").split("\n")


@contextmanager
def told_as(what: str, remedy: str) -> Iterator[None]:
    """Tell in one line whatever goes wrong inside, except what is a line already.

    Raises:
        PromptError: anything else was raised.
    """
    try:
        yield
    except PromptError:
        raise
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, KeyError):
            why = f"there is no {why}"
        why = why if len(why) <= _LONGEST else why[:_LONGEST] + " …"
        raise PromptError(f"{what} cannot be read ({why}): {remedy}") from error


_LONGEST = 300
"""Characters of another package's message: some list all there is."""
