"""What rounds look like on a terminal."""

from collections.abc import Iterable
from typing import IO

from rich.console import Console
from rich.text import Text

from ..output import Stats
from ..types import Round

STYLES = {"accepted": "green", "recovered": "yellow", "bonus": "bold cyan", "plain": ""}
LEGEND = {
    "accepted": "draft token the target agreed with",
    "recovered": "the target's own token where it did not",
    "bonus": "the target's extra token after a wholly accepted draft",
}


class Screen:
    """Writes rounds as they come, coloured by kind where the stream is a terminal.

    Args:
        file: where to write.
        color: False for plain text in any case; None lets the terminal decide.
    """

    def __init__(self, file: IO[str], *, color: bool | None = None) -> None:
        self.console = Console(
            file=file, highlight=False, no_color=color is False, soft_wrap=True, markup=False
        )
        self.colored = color is not False and self.console.is_terminal
        self._file = file

    def show(self, turn: Round) -> None:
        """Write the text of a round."""
        if not self.colored:
            # as it is: a console would drop control characters and expand tabs
            self._file.write(turn.text)
        else:
            text = Text(end="")
            for piece, kind in zip(turn.pieces, turn.kinds, strict=True):
                text.append(piece, STYLES[kind])
            self.console.print(text, end="")
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


def summary(stats: Stats, *, same_text: bool, interrupted: bool = False) -> str:
    """Return one line about a finished request."""
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
    parts.append(_promise(stats.exact, same_text))
    parts.append("interrupted" if interrupted else f"end: {stats.end}")
    return " · ".join(parts)


def _promise(exact: bool, same_text: bool) -> str:
    if not exact:
        return "approximate"
    return "exact: the same text" if same_text else "exact: the same law"


def kinds_and_pieces(rounds: Iterable[Round]) -> list[dict[str, object]]:
    """Return every emitted token with its kind and text, for JSON."""
    return [
        {"token": token, "kind": kind, "text": piece, "round": turn.index}
        for turn in rounds
        for token, kind, piece in zip(turn.tokens, turn.kinds, turn.pieces, strict=True)
    ]
