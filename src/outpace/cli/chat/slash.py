"""Slash commands: what there is, what a line asks for, what the tab key offers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ...errors import InvalidArgument, UnknownName

if TYPE_CHECKING:
    from .talk import Talk

Offered = tuple[int, Sequence[tuple[str, str]], bool]
"""Where the word under the cursor begins, what it could be and why, and whether a path fits too."""
Words = Callable[[str], Offered]
SWITCH = ("on", "off")


@dataclass(frozen=True, slots=True)
class Command:
    """A slash command.

    Attributes:
        name: without the slash.
        usage: what follows it.
        about: one line.
        run: does it, given what follows.
        words: what could follow.
        path: a path could.
    """

    name: str
    usage: str
    about: str
    run: Callable[["Talk", str], None]
    words: Sequence[str] = ()
    path: bool = False


def is_command(line: str) -> bool:
    """Return whether a line is a command; two slashes begin a message that begins with one."""
    return line.startswith("/") and not line.startswith("//")


def find(known: Mapping[str, Command], line: str) -> tuple[Command, str]:
    """Return the command of a line and what follows it.

    Raises:
        UnknownName: there is no such command; the message names the nearest one.
    """
    name, _, rest = line[1:].strip().partition(" ")
    if name.lower() in known:
        return known[name.lower()], rest.strip()
    shown = name if len(name) <= 40 else name[:40] + "…"
    near = get_close_matches(name.lower(), known, n=1)
    hint = f" (did you mean /{near[0]}?)" if near else ""
    raise UnknownName(
        f"unknown command /{shown}{hint}: /help lists them; begin with // to say /{shown}"
    )


def offered(known: Mapping[str, Command], before: str) -> Offered:
    """Return what the text before the cursor could go on with."""
    if not is_command(before) or "\n" in before:
        return len(before), (), False
    head, space, rest = before.partition(" ")
    if not space:
        return 0, [(f"/{one.name}", one.about) for one in known.values()], False
    command = known.get(head[1:].lower())
    if command is None:
        return len(before), (), False
    start = len(before) - len(rest.rpartition(" ")[2])
    return start, [(word, "") for word in command.words], command.path


def switched(given: str, now: bool, command: str) -> bool:
    """Return what ``on``, ``off`` or nothing makes of a switch.

    Raises:
        InvalidArgument: it is something else.
    """
    if not given:
        return not now
    if given.lower() not in SWITCH:
        raise InvalidArgument(f"/{command} {given}: give on or off, or nothing to change it")
    return given.lower() == "on"


def whole_number(given: str, command: str, example: int) -> int:
    """Return a number that a command was given.

    Raises:
        InvalidArgument: it is none.
    """
    try:
        return int(given)
    except ValueError:
        what = f"/{command} {given}".strip()
        raise InvalidArgument(f"{what}: give a whole number, as in /{command} {example}") from None


def said(switch: bool) -> str:
    """Return a switch in words."""
    return "on" if switch else "off"
