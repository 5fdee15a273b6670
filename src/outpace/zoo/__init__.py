"""The embedded models: a target and three drafters that share a tokenizer, trained for Outpace.

Here are their folders; :mod:`outpace.zoo.train` makes them.
"""

import os
from pathlib import Path

from ..errors import ModelNotFound, UnknownName

PREFIX = "zoo:"
TARGET = "target"
SIZES = ("small", "medium", "large")
FASTEST = "large"
"""The drafter that decodes the embedded target fastest, as measured (docs/results)."""
_HERE = Path(__file__).resolve().parent


def target_dir() -> Path:
    """Return the folder of the embedded target, in Hugging Face format."""
    return _folder(TARGET)


def drafter_dir(size: str = "medium") -> Path:
    """Return the folder of an embedded drafter: ``small``, ``medium`` or ``large``.

    Raises:
        UnknownName: no drafter has that size.
    """
    if size not in SIZES:
        raise UnknownName(f"no embedded drafter {size!r}: choose one of {', '.join(SIZES)}")
    return _folder(size)


def folder(name: str) -> Path:
    """Return the folder of ``zoo:NAME``.

    Raises:
        UnknownName: no embedded model has that name.
    """
    short = name.removeprefix(PREFIX)
    known = (TARGET, *SIZES)
    if short not in known:
        choices = ", ".join(PREFIX + one for one in known)
        raise UnknownName(f"no embedded model {name!r}: choose one of {choices}")
    return _folder(short)


def partner(target: object) -> str:
    """Return the name of the drafter to use where none is asked for.

    The embedded drafter knows the embedded target's vocabulary alone.
    """
    named = os.fspath(target) if isinstance(target, str | os.PathLike) else ""
    named = named.partition(" (")[0]  # a copy is named after it: zoo:target (int8)
    ours = named == PREFIX + TARGET or (bool(named) and Path(named).absolute() == _HERE / TARGET)
    return PREFIX + FASTEST if ours else "prompt-lookup"


def _folder(name: str) -> Path:
    place = _HERE / name
    if not (place / "config.json").is_file():
        raise ModelNotFound(
            f"{PREFIX}{name}: its files are missing from this installation: install Outpace again"
        )
    return place
