"""How far a command has come."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .text import visible

if TYPE_CHECKING:
    from ..bench.keeping import Notify


@contextmanager
def progress(steps: int, unit: str = "texts") -> Iterator["Notify"]:
    """Show a bar with the time left on a terminal, elsewhere a line at every tenth."""
    from .screen import Screen

    screen = Screen(sys.stderr)
    if not screen.terminal:
        done, total = 0, steps

        def line(what: str, *, more: int = 0) -> None:
            nonlocal done, total
            done, total = done + 1, total + more
            if done * 10 // total > (done - 1) * 10 // total:
                print(f"{done} of {total} {unit} ({visible(what)})", file=sys.stderr, flush=True)

        yield line
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=screen.console,
        transient=True,
    )
    with bar:
        task = bar.add_task("starting", total=steps)

        def advance(what: str, *, more: int = 0) -> None:
            total = (bar.tasks[0].total or 0) + more
            bar.update(task, advance=1, total=total, description=visible(what))

        yield advance
