"""Text made safe to be shown: nothing in it is markup, invisible or able to turn what follows."""

from __future__ import annotations

import unicodedata
from html import escape

JOINERS = frozenset("\u200c\u200d")
"""Characters without a shape of their own that emoji and several scripts cannot do without."""
HALF = "◌"
"""What stands for a token that completes no character."""


def escaped(text: str) -> str:
    """Return any text as content or attribute of an element.

    Controls and formats become visible signs, halves of characters that are not whole become the
    replacement character; spaces, tabs and ends of lines stay.
    """
    return escape(whole(text))


def whole(text: str) -> str:
    """Return the text with what cannot be seen made visible, still without escapes."""
    if text.isprintable():
        return text
    # Two halves of a character that lie side by side are one; a half alone is no text at all.
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return "".join(character if _harmless(character) else sign(character) for character in joined)


def sign(character: str) -> str:
    """Return what stands for a control or format character: its escape, which any font has."""
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def clipped(text: str, columns: int) -> str:
    """Return the text cut to so many columns of a fixed-width font, an ellipsis at the cut."""
    if width(text) <= columns:
        return text
    kept, used = "", 1
    for character in text:
        used += width(character)
        if used > columns:
            break
        kept += character
    return kept + "…"


def width(text: str) -> int:
    """Return how many columns of a fixed-width font a text takes."""
    return sum(
        0
        if unicodedata.combining(character)
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )


def many(count: int, noun: str) -> str:
    """Return ``1 round`` or ``2 rounds``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def milliseconds(seconds: float) -> str:
    """Return a time with three figures, or what there is before the point."""
    value = 1000 * seconds
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} ms"


def share(value: float) -> str:
    """Return a share in per cent, as content of an element; only nothing is called 0 %."""
    return "&lt; 1 %" if 0 < value < 0.005 else f"{100 * value:.0f} %"


def _harmless(character: str) -> bool:
    if character in "\n\t" or character in JOINERS:
        return True
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
