"""Tables: of figures and of facts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..document import Table
from .words import escaped

_FIGURE = re.compile(
    r"[+−-]?[\d.,\s]*\d[\d.,\s]*[%×x]?"
    r"([\s([±–/+−-]*\d[\d.,\s]*[%×x]?|[\s(]+–)*[)\]]?\s*(ms|s|µs|[kKMG]i?B|tokens/s|%|×|\?)?"
)


def table(table: Table) -> str:
    """Return a table in a container that scrolls sideways where the screen is narrow."""
    figures = [_is_figures(column) for column in _columns(table)]
    head = "".join(
        f'<th scope="col"{_class(number)}>{escaped(name)}</th>'
        for name, number in zip(table.head, figures, strict=True)
    )
    body = "\n".join(f"<tr>{_row(row, figures)}</tr>" for row in table.rows)
    note = f'\n<p class="note">{escaped(table.note)}</p>' if table.note else ""
    return (
        '<div class="table">\n'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(table.title)}">\n'
        f"<table>\n<caption>{escaped(table.title)}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>{note}\n</div>"
    )


def facts(facts: Mapping[str, Any]) -> str:
    """Return names and values, one beside the other; mappings inside are flattened."""
    rows = "\n".join(
        f'<tr><th scope="row">{escaped(name)}</th><td>{escaped(value)}</td></tr>'
        for name, value in flat(facts)
    )
    return f'<table class="facts">\n<tbody>\n{rows}\n</tbody>\n</table>'


def flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield a name and a value for each leaf; the names on the way to it are joined."""
    for key, value in facts.items():
        name = f"{before} · {key}" if before else str(key)
        if isinstance(value, Mapping):
            yield from flat(value, name)
        else:
            yield name, _said(value)


def _said(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(one) for one in value) or "none"
    return str(value)


def _row(row: Sequence[str], figures: Sequence[bool]) -> str:
    cells = [
        f"<td{_class(number)}>{escaped(cell)}</td>"
        for cell, number in zip(row[1:], figures[1:], strict=True)
    ]
    return "".join([f'<th scope="row">{escaped(row[0])}</th>', *cells])


def _class(is_figure: bool) -> str:
    return ' class="figure"' if is_figure else ""


def _columns(table: Table) -> Iterator[list[str]]:
    for place in range(len(table.head)):
        yield [row[place] for row in table.rows] if place else []


def _is_figures(cells: Sequence[str]) -> bool:
    """Return whether all that is said in a column are figures."""
    said = [cell.strip() for cell in cells if cell.strip() not in {"", "–", "-", "(–)"}]
    return bool(said) and all(_FIGURE.fullmatch(cell) for cell in said)
