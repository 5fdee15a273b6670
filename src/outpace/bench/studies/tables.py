"""Tables of a study: which rows, which columns, and their plain values for other programs.

In a study file::

    [[parts.tables]]
    name = "speed"                      # of its files
    title = "Speed"
    columns = ["speedup", "acceptance"] # of outpace.bench.studies.columns
    kinds = false                       # a row for each kind of text
    methods = ["hf", "draft@{K}"]       # templates to show; all where it is left out
    pivot = "max_new_tokens"            # an axis (or "kind") whose values are columns instead;
                                        # then there is one column only
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidArgument
from ...registry import unknown_among
from ..document import Table
from ..metrics import Interval
from ..report import label
from .columns import NONE, OF_POLICIES, Column, column
from .options import file_name, texts
from .outcome import Row
from .study import Part, shown

_KEYS = ("name", "title", "columns", "kinds", "methods", "pivot", "note")
KIND = "kind"
SPEED = ("tokens_per_second", "speedup", "ttft", "tpot", "itl", "acceptance", "tau", "ppl", "same")
MEMORY = (
    "weights",
    "drafter_weights",
    "kv",
    "drafter_kv",
    "stores",
    "peak",
    "growth",
    "repeated",
)
USUAL: Sequence[Mapping[str, Any]] = (
    {"name": "speed", "title": "Speed and text", "columns": list(SPEED)},
    {"name": "memory", "title": "Memory, part by part", "columns": list(MEMORY)},
)
"""What a part has that names no tables."""
USUAL_OF_POLICIES: Sequence[Mapping[str, Any]] = (
    {
        "name": "quality",
        "title": "Quality while tokens are forgotten",
        "columns": list(OF_POLICIES),
    },
)
"""The same, of a part that compares cache policies on given texts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A table to make, as a study file says; see the module."""

    name: str
    title: str
    columns: Sequence[Column]
    names: Sequence[str]
    kinds: bool
    methods: Sequence[str]
    pivot: str | None
    note: str
    complete: bool = False

    @classmethod
    def of(cls, table: Mapping[str, Any], part: Part, *, complete: bool = False) -> Plan:
        """Return what a table of a study file asks for.

        Args:
            table: of the file.
            part: whose.
            complete: whether it also has a row for every method without figures.

        Raises:
            InvalidArgument: it cannot be read.
        """
        where = f"part {part.name!r}, a table"
        for key in table:
            if key not in _KEYS:
                raise InvalidArgument(f"{where}: {unknown_among('key', key, _KEYS)}")
        usual = SPEED if part.evictions is None else OF_POLICIES
        names = texts(table, "columns", usual, where)
        pivot = table.get("pivot")
        if pivot is not None and len(names) != 1:
            raise InvalidArgument(f"{where}: pivot {pivot!r} with {len(names)} columns: give one")
        if pivot is not None and pivot not in {KIND, *part.axes}:
            known = unknown_among("axis", str(pivot), [KIND, *part.axes])
            raise InvalidArgument(f"{where}: {known}")
        name = file_name(table.get("name", "table"), where)
        return cls(
            name,
            str(table.get("title", name)),
            [column(one, part) for one in names],
            names,
            bool(table.get("kinds", False)) or pivot == KIND,
            texts(table, "methods", (), where),
            pivot,
            str(table.get("note", "")),
            complete,
        )

    def chosen(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows it shows."""
        return [
            row
            for row in rows
            if (row.result is not None or self.complete) and row.is_of(self.methods)
        ]

    def table(self, rows: Sequence[Row], part: Part) -> Table:
        """Return the table."""
        rows = self.chosen(rows)
        name = f"{part.name}-{self.name}"
        note = " ".join([self.note, *_without(rows)])
        if self.pivot is not None:
            head, cells = self._pivoted(rows)
        else:
            lead, columns = _lead(rows), self._needed(rows)
            head = [*(_head(one, rows) for one in lead), *(one.head for one in columns)]
            cells = [
                [*(_place(row, one) for one in lead), *(one.cell(row) for one in columns)]
                for row in rows
            ]
        return Table(name, self.title, head, cells, note.strip())

    def _needed(self, rows: Sequence[Row]) -> list[Column]:
        """Return the columns, those that a machine may have nothing for where it has something."""
        return [
            one
            for one in self.columns
            if not one.optional or any(one.value(row) is not None for row in rows)
        ]

    def _pivoted(self, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
        assert self.pivot is not None
        only = self.columns[0]
        known = [row for row in rows if row.result is not None]
        values = list(dict.fromkeys(_place(row, self.pivot) for row in known))
        lead = [one for one in _lead(rows) if one != self.pivot]
        cells: dict[tuple[str, ...], dict[str, str]] = {}
        for row in rows:
            own = _name(row, self.pivot)
            key = tuple(own if one == "method" else _place(row, one) for one in lead)
            cells.setdefault(key, {})[_place(row, self.pivot)] = only.cell(row)
        head = [*(_head(one, rows) for one in lead), *values]
        made = [[*key, *(found.get(one, NONE) for one in values)] for key, found in cells.items()]
        return head, made

    def values(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Return plain values by column name, an interval as three of them."""
        found = []
        for row in self.chosen(rows):
            line: dict[str, Any] = {one: _place(row, one) for one in _lead(rows)}
            for name, one in zip(self.names, self.columns, strict=True):
                line |= _plain(name, one.cell(row) if name == "same" else one.value(row))
            line["why"] = row.why if row.result is None else ""
            found.append(line)
        return found


def plans(part: Part) -> list[Plan]:
    """Return the tables of a part; one of them names what has no figures."""
    tables = part.tables or (USUAL if part.evictions is None else USUAL_OF_POLICIES)
    whole = [n for n, table in enumerate(tables) if not table.get("methods")] or [0]
    plain = [n for n in whole if "pivot" not in tables[n]] or whole
    return [Plan.of(table, part, complete=n == plain[0]) for n, table in enumerate(tables)]


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    lines = [f"| {' | '.join(map(_escaped, table.head))} |", f"|{' --- |' * len(table.head)}"]
    lines += [f"| {' | '.join(map(_escaped, row))} |" for row in table.rows]
    return "\n".join(lines) + (f"\n\n{table.note}" if table.note else "") + "\n"


def latex(table: Table) -> str:
    """Return a table in LaTeX, with the rules of booktabs."""
    columns = "l" + "r" * (len(table.head) - 1)
    lines = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        " & ".join(map(_tex, table.head)) + r" \\",
        "\\midrule",
        *(" & ".join(map(_tex, row)) + r" \\" for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def comma_separated(values: Sequence[Mapping[str, Any]]) -> str:
    """Return plain values as CSV, with a head."""
    out = io.StringIO()
    names = list(dict.fromkeys(name for line in values for name in line))
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(values)
    return out.getvalue()


def _without(rows: Sequence[Row]) -> list[str]:
    """Return sentences that name the methods without figures, and say why."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.result is None:
            reasons.setdefault(row.why, []).append(row.method)
    return [f"No figures ({why}): {', '.join(dict.fromkeys(n))}." for why, n in reasons.items()]


def _head(name: str, rows: Sequence[Row]) -> str:
    """Return the heading of what names a row."""
    if name == KIND:
        return "texts" if all(row.context is None for row in rows) else "tokens read"
    return name


def _lead(rows: Sequence[Row]) -> list[str]:
    """Return what names a row: the axes of settings that have several values, kind, method."""
    axes = list(dict.fromkeys(name for row in rows for name in row.setting.axes))
    several = [
        name for name in axes if len({shown(row.setting.axes.get(name)) for row in rows}) > 1
    ]
    kinds = [KIND] if any(row.group for row in rows) else []
    return [*several, *kinds, "method"]


def _name(row: Row, pivot: str) -> str:
    """Return a method's name as a row has it whose columns are the values of an axis.

    What tuning found differs from setting to setting, the method is the same.
    """
    if row.setting.evictions is not None:
        own = {one.name: one.axes for one in row.setting.methods}.get(row.method, {})
        rest = [f"{axis} {shown(value)}" for axis, value in own.items() if axis != pivot]
        return ", ".join([row.template, *rest])
    hole = f"{{{pivot}}}"
    if hole not in row.template:
        return row.method
    name = row.template.replace(hole, "…")
    for axis, value in row.axes.items():
        name = name.replace(f"{{{axis}}}", shown(value))
    return name


def _place(row: Row, name: str) -> str:
    if name == "method":
        return row.method if row.result is None else label(dict(row.result))
    if name == KIND:
        return row.group or "all"
    return shown(row.axes.get(name, NONE))


def _plain(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Interval):
        return {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
    if isinstance(value, Mapping):
        return {f"{name}_{key}": one for key, one in value.items() if key != "samples"}
    if isinstance(value, list):
        return {name: " ".join(map(str, value))}
    return {name: value}


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "\N{NO-BREAK SPACE}": "~",
    "^": r"\textasciicircum{}",
    **{one: "\\" + one for one in "&%$#_{}"},
    "×": r"$\times$",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "ρ": r"$\rho$",
    "α": r"$\alpha$",
    "τ": r"$\tau$",
    "…": r"\ldots{}",
}


def _tex(cell: str) -> str:
    return "".join(_TEX.get(one, one) for one in cell)
