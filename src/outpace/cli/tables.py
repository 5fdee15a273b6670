"""Records and rows as tables on a screen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .text import visible

if TYPE_CHECKING:
    from ..bench import Record
    from .screen import Screen


def show(screen: "Screen", record: "Record", *, brief: bool = False) -> None:
    """Print the tables of a record, the verdict and the warnings.

    Args:
        screen: where.
        record: of a run.
        brief: leave out the table by kind of text, and advice about options.
    """
    from ..bench.report import (
        BREAKDOWN,
        SPEED,
        TEXT,
        breakdown_rows,
        speed_rows,
        text_rows,
        verdict,
    )

    if not screen.terminal:
        screen.console.width = 200  # nothing is gained by folding lines for a file
    screen.console.print(grid(SPEED, speed_rows(record), screen))
    screen.console.print(grid(TEXT, text_rows(record), screen))
    if not brief and (cells := breakdown_rows(record)):
        screen.console.print(grid(BREAKDOWN, cells, screen))
    screen.console.print(verdict(record))
    for warning in record["warnings"]:
        if not (brief and warning["kind"] in {"interval", "few"}):
            screen.console.print(f"warning: {visible(warning['text'])}", style="yellow")


def grid(head: Sequence[str], cells: Sequence[Sequence[str]], screen: "Screen") -> Any:
    """Return a table for a screen."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    style = "bold" if screen.colored else ""
    table = Table(box=box.SIMPLE_HEAD, header_style=style, pad_edge=False, padding=(0, 1, 0, 0))
    for name in head:
        left = name in {"texts", "method", "same text"}
        table.add_column(name.replace(" ", "\n", 1), justify="left" if left else "right")
    for row in cells:
        table.add_row(*(Text(visible(cell), overflow="fold") for cell in row))
    return table
