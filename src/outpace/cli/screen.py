"""What rounds look like on a terminal."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from .text import visible

if TYPE_CHECKING:
    from ..output import Stats
    from ..types import Round

STYLES = {"accepted": "green", "recovered": "yellow", "bonus": "bold cyan", "plain": ""}
LEGEND = {
    "accepted": "as drafted",
    "recovered": "the target's instead",
    "bonus": "the target's after a whole draft",
}


class Screen:
    """Writes rounds as they come, coloured by kind where the stream is a terminal.

    Args:
        file: where to write.
        color: False for plain text in any case; True lets the terminal decide.

    Attributes:
        terminal: someone looks at it.
        colored: it is a terminal with colours, and they are wanted.
        unicode: it takes any character.
    """

    def __init__(self, file: IO[str], *, color: bool = True) -> None:
        self.console = Console(
            file=file,
            highlight=False,
            # None leaves it to NO_COLOR
            no_color=None if color else True,
            soft_wrap=True,
            markup=False,
        )
        self.terminal = self.console.is_terminal
        self.colored = (
            self.terminal and not self.console.no_color and self.console.color_system is not None
        )
        self.unicode = (getattr(file, "encoding", None) or "ascii").lower().startswith("utf")
        self._file = file

    def write(self, text: str) -> None:
        """Write a text as it is, to the byte; on a terminal, safe to be seen."""
        self._file.write(visible(text) if self.terminal else text)
        self._file.flush()

    def show(self, turn: "Round") -> None:
        """Write the text of a round."""
        if not self.colored:
            self.write(turn.text)
            return
        text = Text(end="")
        for piece, kind in zip(turn.pieces, turn.kinds, strict=True):
            text.append(visible(piece), STYLES[kind])
        self.console.print(text, end="")
        self._file.flush()

    def flush(self) -> None:
        """Have what was written be seen before anything else is."""
        self._file.flush()

    def end(self) -> None:
        """Finish the last line."""
        self._file.write("\n")
        self._file.flush()

    def legend(self) -> Text:
        """Return a line that explains the colours."""
        text = Text("  ")
        for number, (kind, meaning) in enumerate(LEGEND.items()):
            text.append("  " if number else "")
            text.append(kind, STYLES[kind])
            text.append(f" {meaning}", "dim")
        return text


@contextmanager
def loading(what: str) -> Iterator[Callable[[str], None]]:
    """Show what takes long on standard error, if it is a terminal, and how many weights are there.

    Yields:
        A function that says what is done now.
    """
    screen = Screen(sys.stderr)
    if not screen.colored:
        yield lambda now: None
        return
    said = what

    def say(now: str) -> None:
        nonlocal said
        said = now
        status.update(Text(visible(said), "dim"))

    def count(done: int, total: int) -> None:
        status.update(Text(visible(f"{said}: {done} of {total} weights"), "dim"))

    with screen.console.status(Text(visible(what), "dim")) as status:
        from ..models.watching import watched

        with watched(count):
            yield say


def figures(stats: "Stats") -> list[str]:
    """Return what is to be said about the tokens of a request and the time they took."""
    parts = [
        f"{stats.new_tokens} tokens in {stats.total:.2f} s",
        f"{stats.tokens_per_second:.1f} tokens/s",
        f"first after {1000 * stats.ttft:.0f} ms",
    ]
    if stats.drafted:
        parts.append(
            f"accepted {stats.accepted} of {stats.drafted} draft tokens "
            f"({stats.acceptance_rate:.0%})"
        )
        parts.append(f"{stats.mean_acceptance_length:.2f} tokens a forward")
    return parts


def summary(stats: "Stats", *, same_text: bool, interrupted: bool = False) -> str:
    """Return one line about a finished request."""
    if not stats.new_tokens:
        return "0 tokens · interrupted"
    parts = figures(stats)
    parts.append(promise(stats.exact, same_text))
    parts.append("interrupted" if interrupted else f"end: {stats.end}")
    return " · ".join(parts)


def promise(exact: bool, same_text: bool) -> str:
    """Return how exact a text is, in words."""
    if not exact:
        return "approximate"
    return "exact: the same text" if same_text else "exact: the same law"


def kinds_and_pieces(rounds: Iterable["Round"]) -> list[dict[str, object]]:
    """Return every emitted token with its kind and text, for JSON."""
    return [
        {"token": token, "kind": kind, "text": piece, "round": turn.index}
        for turn in rounds
        for token, kind, piece in zip(turn.tokens, turn.kinds, turn.pieces, strict=True)
    ]
