"""Where what was measured or learnt on this machine is kept: one setting, ``OUTPACE_CACHE``."""

import os
from pathlib import Path

CACHE_VARIABLE = "OUTPACE_CACHE"


def cache_folder() -> Path:
    """Return where measurements are kept: ``OUTPACE_CACHE``, or ``outpace`` in the user's cache."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(user).expanduser() / "outpace"
