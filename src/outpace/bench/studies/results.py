"""What is made of a study's records: tables in three forms, pictures in two, and one page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...folders import write_whole
from ..document import Document, Generation, Picture, Section, Table, Turn
from ..environment import machine
from ..page import html
from .journal import Journal
from .outcome import Outcome, Row, rows
from .pictures import as_png, as_svg, picture, sketches
from .study import Part, Study
from .tables import Plan, comma_separated, latex, markdown, plans
from .verdict import lead, verdict

PAGE = "report.html"
TEXT = "results.md"
_GENERATIONS = 6
"""Texts drawn round by round in a page, at most."""


@dataclass(frozen=True, slots=True)
class Made:
    """A part of a study with everything that is made of it.

    Attributes:
        part: which.
        tables: with their plans and rows.
        pictures: drawn, with their files.
    """

    part: Part
    tables: Sequence[tuple[Plan, Table, Sequence[Row]]]
    pictures: Sequence[tuple[Picture, Any]]


def write_results(
    study: Study, journal: Journal, found: Sequence[Outcome], folder: Path
) -> list[Path]:
    """Write all tables, pictures and the page into a folder; return their paths.

    Args:
        study: whose.
        journal: its records.
        found: what it came to.
        folder: where.

    Raises:
        OSError: one cannot be written.
    """
    parts = [_made(found, part) for part in study.parts]
    files: dict[str, bytes] = {}
    for made in parts:
        for plan, table, members in made.tables:
            files[f"{table.name}.csv"] = comma_separated(plan.values(members)).encode()
            files[f"{table.name}.tex"] = latex(table).encode()
        for drawn, figure in made.pictures:
            files[f"{drawn.name}.svg"] = as_svg(figure).encode()
            files[f"{drawn.name}.png"] = as_png(figure)
    files[TEXT] = page_of_text(study, journal, found, parts).encode()
    page = document(study, journal, found, parts)
    files[PAGE] = html(page).encode("utf-8", "replace")
    for name, content in files.items():
        write_whole(folder / name, content)
    return [folder / name for name in files]


def _made(found: Sequence[Outcome], part: Part) -> Made:
    known = {kinds: list(rows(found, part.name, groups=kinds)) for kinds in (False, True)}
    tables = []
    for plan in plans(part):
        members = known[plan.kinds]
        if any(row.result is not None for row in plan.chosen(members)):
            tables.append((plan, plan.table(members, part), members))
    drawn = []
    for sketch in sketches(part):
        figure = sketch.figure(known[sketch.kinds])
        if figure is not None:
            drawn.append((picture(sketch, part, figure), figure))
    return Made(part, tables, drawn)


def page_of_text(
    study: Study,
    journal: Journal,
    found: Sequence[Outcome],
    parts: Sequence[Made],
) -> str:
    """Return everything as Markdown."""
    lines = [f"# {study.title}", ""]
    for paragraph in [*lead(study, found), *verdict(study, found)]:
        lines += [paragraph, ""]
    for made in parts:
        if len(parts) > 1:
            lines += [f"## {made.part.title}", ""]
        for _, table, _ in made.tables:
            lines += [f"### {table.title}", "", markdown(table)]
        for drawn, _ in made.pictures:
            lines += [f"![{drawn.title}]({drawn.name}.svg)", ""]
    notes = warnings(journal, found)
    if notes:
        lines += ["## What limits these figures", "", *(f"- {note}" for note in notes), ""]
    lines += ["## Where, and how to run it again", ""]
    for where in _environments(journal):
        lines += [where, ""]
    lines += ["```sh", *commands(journal), "```"]
    return "\n".join(lines) + "\n"


def document(
    study: Study,
    journal: Journal,
    found: Sequence[Outcome],
    parts: Sequence[Made],
) -> Document:
    """Return everything as a page shows it."""
    sections = [
        Section(
            made.part.title if len(parts) > 1 else "Figures",
            tables=[table for _, table, _ in made.tables],
            pictures=[drawn for drawn, _ in made.pictures],
        )
        for made in parts
    ]
    texts = _generations(journal, found)
    if texts:
        sections.append(Section("Texts, round by round", generations=texts))
    where = {json.dumps(line["environment"]): line["environment"] for line in journal.of("run")}
    return Document(
        study.title,
        verdict(study, found),
        lead(study, found),
        warnings(journal, found),
        sections,
        list(where.values()),
        commands(journal),
    )


def warnings(journal: Journal, found: Sequence[Outcome]) -> list[str]:
    """Return what limits the figures, each sentence once, with the settings it is true of."""
    where: dict[str, list[str]] = {}
    for line in journal.of("impossible"):
        name = line["setting"].rpartition("#")[0]
        where.setdefault(f"{name}: no figures: {line['why']}", [])
    for kind, of in (("alone", "method"), ("quality", "precision")):
        for line in journal.of(kind):
            if line.get("refused"):  # that it had figures beside the others says nothing of this
                where.setdefault(f"{line[of]}, in a process of its own: {line['refused']}", [])
    for outcome in found:
        setting = outcome.setting
        for one in outcome.record["warnings"]:
            if one["kind"] not in {"interval", "unusable"}:  # tables mark and name these
                name = f"{setting.part} {setting.label}".strip()
                where.setdefault(one["text"], []).append(name)
    return [
        f"{text} ({'; '.join(names)})" if len(found) > 1 else text for text, names in where.items()
    ]


def commands(journal: Journal) -> list[str]:
    """Return what was run, each once."""
    return list(dict.fromkeys(line["command"] for line in journal.of("run") if line["command"]))


def _environments(journal: Journal) -> list[str]:
    found = []
    for line in journal.of("run"):
        one = line["environment"]
        versions = ", ".join(f"{name} {number}" for name, number in one["versions"].items())
        found.append(f"{machine(one)} ({one['system']}) with {versions}.")
    return list(dict.fromkeys(found))


def _generations(journal: Journal, found: Sequence[Outcome]) -> list[Generation]:
    """Return texts to draw: of the first setting, those of its fastest methods."""
    written = [one for one in found if one.setting.evictions is None]
    if not written:
        return []
    setting, record = written[0].setting, written[0].record
    drawn = {line["method"]: line for line in journal.of("rounds", setting=setting.id)}
    speeds = {one["method"]: one["speedup_vs_hf"]["value"] for one in record["results"]}
    order = sorted((name for name in drawn if name in speeds), key=lambda one: -speeds[one])
    texts = record["prompts"]["texts"]
    made = []
    for name in order[:_GENERATIONS]:
        line = drawn[name]
        turns = [Turn(**turn) for turn in line["turns"]]
        made.append(Generation(name, texts[line["prompt"]]["name"], "", turns, line.get("count")))
    return made
