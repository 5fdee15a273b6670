"""Text on its way in and out: numbers that are read, and characters a terminal would obey."""

import json
import sys
from typing import Any

import typer

# Control characters become their pictures (ESC is ␛), so that no text can steer a terminal;
# carriage returns, which overwrite a line, are dropped.
_PICTURES: dict[int, int | None] = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    0x7F: 0x2421,
    ord("\r"): None,
}


def visible(text: str) -> str:
    """Return a text that is safe to write on a terminal."""
    return text.translate(_PICTURES)


def print_json(record: dict[str, Any]) -> None:
    """Print a record in one line, in characters that the output can take."""
    readable = (sys.stdout.encoding or "utf-8").lower().replace("-", "").startswith("utf")
    print(json.dumps(record, ensure_ascii=not readable))


def whole(text: str) -> int:
    """Read the whole number of an option."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no whole number: give one, like 8") from None


def number(text: str) -> float:
    """Read the number of an option; whether it is in range is for others to say."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number: give one, like 0.8") from None
