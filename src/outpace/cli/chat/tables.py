"""Answers side by side, sums of a conversation, and the list of commands, as tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..screen import figures, promise
from ..tables import grid
from ..text import visible

if TYPE_CHECKING:
    from ...chat import Reply, Totals
    from ..screen import Screen
    from .slash import Command

PLAIN = "target"
NARROW = 24
"""Columns that a text needs at least; with less, answers stand one above the other."""
WIDTH = 100
"""Of tables where nobody looks."""
SUMS = (
    "method",
    "messages",
    "tokens",
    "tokens/s",
    "first, ms",
    "accepted",
    "tokens a forward",
    f"× {PLAIN}",
)


def line(reply: "Reply", plain: "Reply | None") -> str:
    """Return one line about an answer.

    Args:
        reply: the answer.
        plain: what it is compared with; None for nothing.
    """
    stats = reply.stats
    if not stats.new_tokens:
        return f"{reply.method} · 0 tokens · interrupted"
    parts = [reply.method, *figures(stats), *_compared(reply, plain)]
    if stats.drafted:
        parts.append(promise(stats.exact, reply.same_text))
    parts.append(f"prompt {reply.prompt_length}, {reply.prompt_length - reply.held} of it new")
    parts.append("interrupted" if reply.interrupted else f"end: {stats.end}")
    if reply.compiling:
        parts.append("not compiled yet: faster in a minute or two")
    return " · ".join(parts)


def _compared(reply: "Reply", plain: "Reply | None") -> list[str]:
    if plain is None or plain is reply:
        return []
    gain, place = reply.gain(plain), reply.differs_at(plain)
    parts = [] if gain is None else [f"{gain:.2f} × {plain.method}"]
    if place is not None:
        parts.append(f"another text from token {place + 1} on")
    return parts


def side_by_side(replies: Sequence["Reply"], screen: "Screen") -> Any:
    """Return a table with an answer in each column, their figures below."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    plain = next((one for one in replies if one.method == PLAIN), None)
    texts = [visible(one.output.text.strip("\n")) for one in replies]
    below = [line(one, plain).replace(" · ", "\n").partition("\n")[2] for one in replies]
    table = Table(box=box.SIMPLE_HEAD, show_lines=True, expand=True)
    if screen.console.width // len(replies) < NARROW:
        table.show_header = False
        table.add_column()
        for one, text, said in zip(replies, texts, below, strict=True):
            table.add_row(Text(one.method, "bold" if screen.colored else ""))
            table.add_row(Text(text, overflow="fold"))
            table.add_row(Text(said, "dim" if screen.colored else ""))
        return table
    for one in replies:
        table.add_column(one.method, ratio=1, header_style="bold" if screen.colored else "")
    table.add_row(*(Text(text, overflow="fold") for text in texts))
    table.add_row(*(Text(said, "dim" if screen.colored else "") for said in below))
    return table


def sums(rows: Sequence["Totals"], screen: "Screen") -> Any:
    """Return the table of what a conversation's answers add up to."""
    cells = [
        (
            one.method,
            str(one.messages),
            str(one.new_tokens),
            f"{one.tokens_per_second:.1f}",
            f"{1000 * one.ttft:.0f}",
            f"{one.acceptance_rate:.0%}" if one.drafted else "",
            f"{one.mean_acceptance_length:.2f}" if one.rounds else "",
            "" if one.gain is None or one.method == PLAIN else f"{one.gain:.2f}",
        )
        for one in rows
    ]
    return grid(SUMS, cells, screen)


def listed(groups: Mapping[str, Sequence["Command"]], screen: "Screen") -> Any:
    """Return the list of commands."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for title, commands in groups.items():
        table.add_row(Text(title, "bold" if screen.colored else ""), "")
        for one in commands:
            table.add_row(Text(f"  /{one.name} {one.usage}".rstrip()), Text(one.about))
    return table
