"""Commands about what is shown, and the way out."""

from typing import TYPE_CHECKING

from ...errors import InvalidArgument
from .slash import SWITCH, Command, find, said, switched

if TYPE_CHECKING:
    from .talk import Talk


def _debug(talk: "Talk", rest: str) -> None:
    talk.debug = switched(rest, talk.debug, "debug")
    talk.trees = talk.trees and talk.debug
    talk.note(f"debug: {said(talk.debug)}")
    if talk.debug:
        talk.screen.console.print(talk.painter.legend())


def _stats(talk: "Talk", rest: str) -> None:
    if rest:
        talk.stats = switched(rest, talk.stats, "stats")
        talk.note(f"a line of figures after each answer: {said(talk.stats)}")
        return
    if not talk.chat.turns:
        raise InvalidArgument("/stats: nothing was answered yet")
    talk.show_totals()


def _compare(talk: "Talk", rest: str) -> None:
    if rest:
        talk.compare = switched(rest, talk.compare, "compare")
        talk.note(f"answers side by side: {said(talk.compare)}")
        return
    if len(talk.chat.replies) < 2:
        raise InvalidArgument(
            "/compare: one answer alone: turn more methods on, as with /target on, and say "
            "something; /compare on shows every message so"
        )
    talk.show_side_by_side()


def _help(talk: "Talk", rest: str) -> None:
    if rest:
        one, _ = find(talk.commands, "/" + rest.removeprefix("/"))
        talk.screen.console.print(f"/{one.name} {one.usage}\n    {one.about}")
    else:
        talk.show_help()


def _quit(talk: "Talk", rest: str) -> None:
    talk.running = False


COMMANDS = (
    Command(
        "debug",
        "[on|off]",
        "colours: accepted green, rejected red, the target's own blue",
        _debug,
        SWITCH,
    ),
    Command(
        "stats",
        "[on|off]",
        "figures of the whole conversation; on or off: after each answer",
        _stats,
        SWITCH,
    ),
    Command(
        "compare",
        "[on|off]",
        "the last answers side by side; on or off: every time",
        _compare,
        SWITCH,
    ),
    Command("help", "[COMMAND]", "what there is", _help),
    Command("quit", "", "leave; so does Ctrl-D", _quit),
)
