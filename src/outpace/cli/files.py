"""Files a command writes: refused before minutes of measuring, written whole or not at all."""

import os
from pathlib import Path

from ..errors import InvalidArgument
from ..folders import write_whole


def writable(name: str) -> Path:
    """Refuse a file that could not be written after minutes of measuring."""
    path = Path(name).expanduser().resolve()
    if path.is_dir():
        raise InvalidArgument(f"{name} is a folder: give the name of a file")
    if not path.parent.is_dir():
        raise InvalidArgument(f"{name}: the folder {path.parent} is not there: make it first")
    if not os.access(path if _is_special(path) else path.parent, os.W_OK):
        raise InvalidArgument(f"{name} cannot be written: give another place")
    return path


def write_file(name: str, text: str) -> list[str]:
    """Write a file whole or not at all; return why it could not be written."""
    path = Path(name).expanduser().resolve()
    try:
        if _is_special(path):
            path.write_text(text, encoding="utf-8")
        else:
            write_whole(path, text)
    except OSError as error:
        return [f"{name} ({error.strerror})"]
    return []


def _is_special(path: Path) -> bool:
    """Return whether this is a device or a pipe, which no other file may take the place of."""
    return path.exists() and not path.is_file()
