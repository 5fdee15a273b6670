"""What a report shows, as plain values: the page only lays it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as they are shown; the first column names the row.

    Attributes:
        name: of its files, without a suffix.
        title: what it is about.
        head: names of the columns.
        rows: cells, one for each column.
        note: what must be known to read it.
    """

    name: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing.

    Attributes:
        name: of its files, without a suffix.
        title: what it is about.
        svg: an ``<svg>`` element whose ink is ``currentColor`` and whose colours are the
            properties ``--series-1`` to ``--series-8`` of the page, so that it is readable in
            light and dark; a height in its ``viewBox`` alone.
        alternative: what it shows, in words.
    """

    name: str
    title: str
    svg: str
    alternative: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One round of a text, as it is drawn.

    Attributes:
        times: started, drafted, verified, committed, in seconds from the request.
        nodes: the texts of the tree's tokens, the root first.
        parents: of each node, -1 for the root.
        path: the accepted nodes, in order, without the root.
        pieces: the text each emitted token completes.
        kinds: one of ``accepted``, ``recovered``, ``bonus``, ``plain`` for each piece.
    """

    times: Sequence[float]
    nodes: Sequence[str]
    parents: Sequence[int]
    path: Sequence[int]
    pieces: Sequence[str]
    kinds: Sequence[str]


@dataclass(frozen=True, slots=True)
class Generation:
    """One text as it was written, round by round; the first turn is the prefill.

    Attributes:
        method: by whom.
        prompt: name of the prompt.
        before: the end of the prompt's text.
        turns: its rounds.
        rounds: how many it had, where these are only the first of them.
    """

    method: str
    prompt: str
    before: str
    turns: Sequence[Turn]
    rounds: int | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report.

    Attributes:
        title: its heading.
        paragraphs: prose, in plain text.
        tables: below it.
        pictures: below these.
        generations: texts with their rounds, below these.
    """

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    generations: Sequence[Generation] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A report.

    Attributes:
        title: its heading.
        verdict: what to use and what it gains, for each question that was asked: it comes first.
        lead: what has to be known before a figure is read.
        warnings: what limits the figures.
        sections: the rest, in order.
        environments: where it was measured, as :func:`outpace.bench.environment` returns it; more
            than one where it was taken up again elsewhere.
        commands: what runs it again.
    """

    title: str
    verdict: Sequence[str]
    lead: Sequence[str] = ()
    warnings: Sequence[str] = ()
    sections: Sequence[Section] = ()
    environments: Sequence[Mapping[str, Any]] = ()
    commands: Sequence[str] = ()
