"""Ctrl-C, told in one line."""

import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

INTERRUPTED = 130
"""Exit code of a command that was interrupted."""

_P = ParamSpec("_P")


def interruptible(command: Callable[_P, int]) -> Callable[_P, int]:
    """Let a command that is interrupted end with a line and :data:`INTERRUPTED`."""

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> int:
        with _noted() as interrupts:
            try:
                return command(*args, **kwargs)
            except KeyboardInterrupt:
                pass
            except Exception:
                # Interrupted imports fail with errors of the library's own making.
                if not interrupts:
                    raise
        print("outpace: interrupted", file=sys.stderr)
        return INTERRUPTED

    return run


@contextmanager
def _noted() -> Iterator[list[int]]:
    """Note interrupts before they are raised, where this thread gets them and nobody else has."""
    noted: list[int] = []

    def note(number: int, _frame: object) -> None:
        noted.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    ours = (
        before is signal.default_int_handler
        and threading.current_thread() is threading.main_thread()
    )
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)
