"""Where evaluation text, training text and checkpoints lie: one setting, ``OUTPACE_DATA``."""

import os
from pathlib import Path

VARIABLE = "OUTPACE_DATA"


def data_root() -> Path | None:
    """Return the folder that holds ``data/``, ``corpus/`` and ``models/``, or None.

    ``OUTPACE_DATA`` names it; unset, it is ``../shared`` seen from a source checkout.
    """
    named = os.environ.get(VARIABLE)
    if named:
        folder = Path(named).expanduser()
    else:
        checkout = Path(__file__).resolve().parents[2]
        if not (checkout / "pyproject.toml").is_file():
            return None
        folder = checkout.parent / "shared"
    return folder if folder.is_dir() else None


def checkpoint(name: str) -> Path | None:
    """Return the folder of the checkpoint ``models/<name>`` of the data root, or None."""
    root = data_root()
    if root is None:
        return None
    folder = root / "models" / name
    return folder if (folder / "config.json").is_file() else None
