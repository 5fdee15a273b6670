"""What rounds look like under ``/debug``: accepted green, rejected red, the target's own blue."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ..text import visible
from ..trees import drawn, headline

if TYPE_CHECKING:
    from ...types import Round
    from ..screen import Screen

OWN, REJECTED = "bright_blue", "red"
STYLES: Mapping[str, str] = {"accepted": "green", "recovered": OWN, "bonus": OWN, "plain": OWN}
COLOURS: Mapping[str, str] = {"accepted": "green", "rejected": REJECTED, "own": OWN, "plain": OWN}
MARKS: Mapping[str, tuple[str, str]] = {
    "accepted": ("", ""),
    "plain": ("", ""),
    "rejected": ("[-", "-]"),
    "own": ("{+", "+}"),
}
"""Around what has a colour elsewhere, where there are no colours."""


class Painter:
    """Paints rounds.

    Args:
        screen: what it can show.
    """

    def __init__(self, screen: "Screen") -> None:
        self._screen = screen

    def text(self, turn: "Round", tokenizer: Any) -> Text:
        """Return what a round wrote, and the draft tokens that were rejected on the way."""
        parts: list[tuple[str, str]] = []
        for piece, kind in zip(turn.pieces, turn.kinds, strict=True):
            if kind != "accepted":
                parts.append((_rejected(turn, tokenizer), "rejected"))
            parts.append((piece, kind if kind in COLOURS else "own"))
        text = Text(end="")
        for said, what in parts:
            if said:
                self._add(text, said, what)
        return text

    def tree(self, turn: "Round", tokenizer: Any) -> tuple[str, Any]:
        """Return a line about a round, and its tree."""
        picture = drawn(
            turn, tokenizer, unicode=self._screen.unicode, styles=STYLES, rejected=REJECTED
        )
        return headline(turn), picture

    def legend(self) -> Text:
        """Return a line that explains the colours."""
        text = Text()
        for word, kind in (("accepted", "accepted"), ("rejected", "rejected"), ("target's", "own")):
            text.append("  " if text else "")
            self._add(text, word, kind)
        return text

    def _add(self, text: Text, said: str, kind: str) -> None:
        if kind == "rejected":  # nothing of it is in the text, so no line ends there
            said = said.replace("\n", "⏎" if self._screen.unicode else "\\n")
        if self._screen.colored:
            text.append(visible(said), COLOURS[kind])
        else:
            before, after = MARKS[kind]
            text.append(f"{before}{visible(said)}{after}")


def _rejected(turn: "Round", tokenizer: Any) -> str:
    """Return the drafted way on from where the target left: of a tree, first children."""
    tokens, parents = turn.tree.lists()
    node = turn.verdict.path[-1] if turn.verdict.path else 0
    passed = []
    while node in parents:
        node = parents.index(node)
        passed.append(tokens[node])
    return str(tokenizer.decode(passed, clean_up_tokenization_spaces=False)) if passed else ""
