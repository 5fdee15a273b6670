"""Where what was measured or learnt on this machine is kept, and how files are written."""

import os
from contextlib import suppress
from pathlib import Path

CACHE_VARIABLE = "OUTPACE_CACHE"


def cache_folder() -> Path:
    """Return where measurements are kept: ``OUTPACE_CACHE``, or ``outpace`` in the user's cache."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(user).expanduser() / "outpace"


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
