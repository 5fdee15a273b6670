"""Where what was measured or learnt on this machine is kept, and how files are written."""

import os
from contextlib import suppress
from pathlib import Path

from .errors import InvalidArgument

CACHE_VARIABLE = "OUTPACE_CACHE"


def cache_folder() -> Path:
    """Return where measurements are kept: ``OUTPACE_CACHE``, or ``outpace`` in the user's cache."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(user).expanduser() / "outpace"


def read_given(path: str | os.PathLike[str], called: str, remedy: str) -> str:
    """Return the text of a file that a user names.

    Args:
        path: of the file; ``~`` is the user's folder.
        called: how messages name it.
        remedy: what to do where there is none.

    Raises:
        InvalidArgument: no such file, or it cannot be read as text.
    """
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InvalidArgument(f"{called}: no such file: {remedy}") from error
    except OSError as error:
        raise InvalidArgument(
            f"{called} cannot be read ({error.strerror}): give a file that can"
        ) from error
    except ValueError as error:  # not UTF-8, or a name that no file can have
        raise InvalidArgument(f"{called} cannot be read as text ({error}): {remedy}") from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: nobody sees half of it, a failure leaves nothing behind.

    Raises:
        OSError: it cannot be written.
        ValueError: no file can have this name.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        new.write_bytes(content.encode() if isinstance(content, str) else content)
        new.replace(path)
    finally:
        with suppress(OSError, ValueError):
            new.unlink()
