"""Compiled models on disk: found by what they were made from, bounded, the least used go first."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers

from ..errors import InvalidArgument
from ..folders import cache_folder, write_whole
from ..version import __version__

if TYPE_CHECKING:
    from .language_model import LanguageModel

FORMAT = 7
LIMIT_VARIABLE = "OUTPACE_CACHE_GB"
LIMIT = 8.0
"""Gigabytes of compiled models that are kept, unless :data:`LIMIT_VARIABLE` says otherwise."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """One compiled model.

    Attributes:
        key: its folder's name.
        about: model, precision, versions and processor it was made for.
        nbytes: on disk.
        used: when it was loaded last, seconds since 1970.
    """

    key: str
    about: dict[str, str]
    nbytes: int
    used: float


def identity(model: LanguageModel) -> dict[str, str]:
    """Return what a compiled model depends on: weights, precision, versions, processor, threads."""
    return {
        "model": model.name,
        "weights": _digest(model),
        "precision": model.precision,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "outpace": f"{__version__} format {FORMAT}",
        "processor": f"{_processor()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": str(torch.get_num_threads()),
    }


def key_of(about: dict[str, str]) -> str:
    """Return the key of an identity; a model's name has no part in it."""
    parts = {name: value for name, value in about.items() if name != "model"}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def folder() -> Path:
    """Return where compiled models are kept."""
    return cache_folder() / "compiled"


def place_of(key: str) -> Path:
    """Return the folder of an artefact, whether it is there or not."""
    return folder() / key


def is_there(key: str) -> bool:
    """Return whether an artefact is there, whole."""
    return (place_of(key) / "identity.json").is_file()


def finish(key: str, about: dict[str, str]) -> None:
    """Declare an artefact whole; the least used ones go while all take more than the limit."""
    write_whole(place_of(key) / "identity.json", json.dumps(about, indent=1))
    most = limit()
    kept = artefacts()
    total = sum(one.nbytes for one in kept)
    for one in sorted(kept, key=lambda one: one.used):
        if total <= most or one.key == key:
            continue
        remove(one.key)
        total -= one.nbytes


def limit() -> float:
    """Return how many bytes are kept.

    Raises:
        InvalidArgument: the setting is no number above 0.
    """
    given = os.environ.get(LIMIT_VARIABLE)
    try:
        gigabytes = LIMIT if given is None else float(given)
        if not gigabytes > 0:
            raise ValueError
    except ValueError:
        raise InvalidArgument(
            f"{LIMIT_VARIABLE}={given!r}: give a number of gigabytes above 0"
        ) from None
    return gigabytes * 1e9


def artefacts() -> list[Artefact]:
    """Return all whole artefacts, the one used last first."""
    found = []
    for place in folder().glob("*/identity.json"):
        try:
            about = {str(k): str(v) for k, v in json.loads(place.read_text("utf-8")).items()}
            nbytes = sum(file.stat().st_size for file in place.parent.iterdir())
            found.append(Artefact(place.parent.name, about, nbytes, place.stat().st_mtime))
        except (OSError, ValueError, AttributeError):
            continue  # somebody removes it just now
    return sorted(found, key=lambda one: -one.used)


def touch(key: str) -> None:
    """Note that an artefact is used now."""
    with suppress(OSError):
        os.utime(place_of(key) / "identity.json")


def remove(key: str) -> None:
    """Remove an artefact; what runs from it goes on."""
    shutil.rmtree(place_of(key), ignore_errors=True)


def clear() -> tuple[int, int]:
    """Remove all artefacts and what unfinished ones left; return how many and their bytes."""
    gone = artefacts()
    shutil.rmtree(folder(), ignore_errors=True)
    return len(gone), sum(one.nbytes for one in gone)


@contextmanager
def lock(key: str) -> Iterator[bool]:
    """Yield whether this process alone may make an artefact; one that died leaves no lock."""
    folder().mkdir(parents=True, exist_ok=True)
    path = folder() / f"{key}.lock"
    mine = _take(path)
    try:
        yield mine
    finally:
        if mine:
            path.unlink(missing_ok=True)


def being_made() -> list[str]:
    """Return the keys of artefacts that a living process makes now."""
    return [path.stem for path in folder().glob("*.lock") if _holder(path) is not None]


def _take(path: Path) -> bool:
    for _ in range(2):
        with suppress(FileExistsError):
            with path.open("x", encoding="utf-8") as file:
                file.write(str(os.getpid()))
            return True
        if _holder(path) is not None:
            return False
        path.unlink(missing_ok=True)
    return False


def _holder(path: Path) -> int | None:
    """Return the process that holds a lock, if it is alive."""
    with suppress(OSError, ValueError):
        text = path.read_text(encoding="utf-8")
        if not text:  # being written
            return 0 if time.time() - path.stat().st_mtime < 5 else None
        os.kill(int(text), 0)
        return int(text)
    return None


def _digest(model: LanguageModel) -> str:
    """Return a digest of all weights and the configuration."""
    digest = hashlib.sha256(model.fingerprint.encode())
    tensors = [*model.model.named_parameters(), *model.model.named_buffers()]
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        if tensor.element_size() == 1:  # of so few bits the hash would agree by chance
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        elif tensor.numel():
            digest.update(torch.hash_tensor(tensor.detach()).cpu().numpy().tobytes())
    for layer in model.model.modules():  # packed weights that are no tensors
        digest.update(str(getattr(layer, "content", "")).encode())
    return digest.hexdigest()[:32]


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                return hashlib.sha256(line.encode()).hexdigest()[:8] + " " + platform.machine()
    return f"{platform.machine()} {platform.processor()}"
