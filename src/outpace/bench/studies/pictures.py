"""Pictures of a study, drawn from its rows by matplotlib.

In a study file::

    [[parts.pictures]]
    name = "speed"
    title = "Speed-up against draft length"
    kind = "lines"                  # or "bars", "depths", "memory", "grid"
    x = "K"                         # lines and grid: an axis of settings or methods
    y = ["speedup", "acceptance"]   # columns; lines, bars and grid draw a panel for each
    series = "template"             # lines: what makes a line, an axis, "template" or "method"
    panels = "kind"                 # an axis or "kind": a row of panels for each of its values
    methods = ["draft@{K}"]         # templates to draw; all where it is left out
    levels = ["plain"]              # lines: those without the axis x to draw as level lines
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidArgument
from ...registry import unknown_among
from ..document import Picture
from .columns import OF_POLICIES, column
from .options import file_name, texts
from .outcome import CONTEXT, Row
from .plots import COLOURS, INK, PLOTS, draw
from .study import Part

_KEYS = ("name", "title", "kind", "x", "y", "series", "panels", "methods", "levels")


@dataclass(frozen=True, slots=True)
class Sketch:
    """A picture to draw, as a study file says; see the module."""

    name: str
    title: str
    kind: str
    x: str
    y: Sequence[str]
    series: str
    panels: str | None
    methods: Sequence[str]
    levels: Sequence[str] = ()

    @classmethod
    def of(cls, table: Mapping[str, Any], part: Part) -> Sketch:
        """Return what a picture of a study file asks for.

        Raises:
            InvalidArgument: it cannot be read.
        """
        where = f"part {part.name!r}, a picture"
        for key in table:
            if key not in _KEYS:
                raise InvalidArgument(f"{where}: {unknown_among('key', key, _KEYS)}")
        kind = str(table.get("kind", "lines"))
        if kind not in PLOTS:
            raise InvalidArgument(f"{where}: {unknown_among('kind', kind, list(PLOTS))}")
        x, series = str(table.get("x", "")), str(table.get("series", "template"))
        panels = table.get("panels")
        stretches = part.evictions is not None and part.evictions.stretch > 0
        known = [*part.axes, "template", "method", "kind", *([CONTEXT] if stretches else [])]
        asked = [series, *([panels] if panels else []), *([x] if kind in {"lines", "grid"} else [])]
        along = OF_POLICIES if part.evictions is not None and kind == "lines" else ()
        for one in asked:
            if one not in known and not (one == x and x in along):
                raise InvalidArgument(f"{where}: {unknown_among('axis', str(one), known)}")
        y = texts(table, "y", ["speedup" if part.evictions is None else "policy_ppl"], where)
        for one in y:
            column(one, part)
        name = file_name(table.get("name", kind), where)
        title = str(table.get("title", name))
        methods = texts(table, "methods", (), where)
        levels = texts(table, "levels", (), where)
        return cls(name, title, kind, x, y, series, panels, methods, levels)

    @property
    def kinds(self) -> bool:
        """Whether it needs a row for each kind of text."""
        return bool({"kind", CONTEXT} & {self.series, self.panels, self.x})

    def chosen(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows it draws: those with figures."""
        shown = [*self.methods, *self.levels] if self.methods else []
        return [row for row in rows if row.result is not None and row.is_of(shown)]

    def figure(self, rows: Sequence[Row]) -> Any:
        """Return the drawing as a figure of matplotlib, or None where there is nothing to draw."""
        rows = self.chosen(rows)
        if not rows:
            return None
        return draw(self, rows)


def sketches(part: Part) -> list[Sketch]:
    """Return the pictures of a part."""
    return [Sketch.of(table, part) for table in part.pictures]


def picture(sketch: Sketch, part: Part, figure: Any) -> Picture:
    """Return a drawing to stand in a page."""
    return Picture(
        f"{part.name}-{sketch.name}",
        sketch.title,
        themed(as_svg(figure)),
        f"{sketch.title}: the figures are those of the tables of this part",
    )


def as_svg(figure: Any) -> str:
    """Return a figure as an SVG file, the same bytes for the same figure."""
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "outpace"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"<!DOCTYPE.*?>\s*", "", out.getvalue(), count=1, flags=re.S)
    return re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.S)


def as_png(figure: Any) -> bytes:
    """Return a figure as a PNG file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=160, metadata={"Software": None})
    return out.getvalue()


def themed(svg: str) -> str:
    """Return the ``<svg>`` element of a file in the colours of the page it stands in."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for number, colour in enumerate(COLOURS, start=1):
        svg = svg.replace(colour, f"var(--series-{number})")
    svg = re.sub(r"fill: #ffffff", "fill: none", svg)
    return svg.replace(INK, "currentColor")
