"""The memory one call needs: the highest point, and how far it rose from where it stood."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import TypeVar

import torch

from ..models.linears import available_memory

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
T = TypeVar("T")
_EVERY = 0.005
"""Seconds between two samples."""


def measure(call: Callable[[], object], device: torch.device) -> tuple[int, int] | None:
    """Return (peak, growth) in bytes, or None where this system does not tell.

    On a GPU: bytes allocated by torch. On a CPU under Linux: the resident set of the process,
    whose high-water mark is set back first; memory that earlier calls freed is given back to the
    system before, or growth would be hidden in it. Where the mark cannot be set back, as in some
    containers, the resident set is sampled, every few milliseconds.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        return peak, peak - before
    try:
        ctypes.CDLL(None).malloc_trim(0)
        before = _bytes("VmRSS")
    except (OSError, AttributeError, ValueError, TypeError):
        call()
        return None
    try:
        _RESET.write_text("5")
    except OSError:
        peak = _sampled(call)
    else:
        call()
        peak = _bytes("VmHWM")
    return peak, max(0, peak - before)


def _sampled(call: Callable[[], object]) -> int:
    """Return the largest resident set seen while something is done, in bytes."""
    over, seen = Event(), [_bytes("VmRSS")]

    def look() -> None:
        while not over.wait(_EVERY):
            seen.append(_bytes("VmRSS"))

    watcher = Thread(target=look, daemon=True)
    watcher.start()
    try:
        call()
    finally:
        over.set()
        watcher.join()
    return max(*seen, _bytes("VmRSS"))


def highest(device: torch.device) -> int | None:
    """Return the highest memory of the process so far, in bytes; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        return _bytes("VmHWM")
    except (OSError, ValueError):
        return None


def reserved(device: torch.device) -> int | None:
    """Return the most that torch took of a GPU since the last measurement; None on a CPU."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None


def available(device: torch.device) -> float:
    """Return how many bytes of memory are free where a model would lie."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()


def _bytes(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name + ":"):
            return 1024 * int(line.split()[1])
    raise ValueError(name)


def let_go() -> None:
    """Give back what nobody holds any more, after memory ran out or models were dropped."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def tried(call: Callable[[], T]) -> tuple[T | None, str | None]:
    """Do something; return what came of it, or why there was no memory for it.

    In that case all that nobody holds is let go. Errors of any other kind are the caller's.
    """
    try:
        return call(), None
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        said = str(error).strip().splitlines()  # Python's own says nothing
        why = f"out of memory ({said[0]})" if said else "out of memory"
    let_go()  # outside, where the error no longer holds what was in the way
    return None, why


def ran_out(error: BaseException) -> bool:
    """Return whether an error says that there is no memory left, on a GPU or on the host."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
        or "not enough memory" in str(error)
    )
