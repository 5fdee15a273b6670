"""Parts of a long measurement within a budget of time: one that fails does not end the others."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Parts:
    """Runs one part after the other within a budget, and keeps what came of each.

    Args:
        seconds: for all of them.
        path: where the record is written after every part.
        record: what is known beforehand.
    """

    def __init__(self, seconds: float, path: Path, record: dict[str, Any]) -> None:
        self.budget, self.path, self.record = seconds, path, record
        self.began = time.perf_counter()
        record["parts"] = {}

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget - (time.perf_counter() - self.began)

    def run(self, name: str, call: Callable[[], Any], limit: float | None = None) -> Any:
        """Run a part; return what it returns, or None where it was skipped or failed."""
        part: dict[str, Any] = {}
        self.record["parts"][name] = part
        left, began = self.left, time.perf_counter()
        seconds = left if limit is None else min(limit, left)
        found = None
        if left <= 0:
            part["skipped"] = f"the budget of {self.budget:g} s is used up"
        else:
            print(f"{name}: at most {seconds:.0f} s", flush=True)
            try:
                with within(seconds):
                    found = call()
            except Exception as error:  # whatever it is, it says nothing about the other parts
                part["error"] = f"{type(error).__name__}: {error}"
        part["seconds"] = time.perf_counter() - began
        self.save()
        return found

    def save(self) -> None:
        """Write the record as it is."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.record, indent=1) + "\n")


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what takes longer, as soon as Python has its turn."""

    def stop(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"it took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
