"""Figures of matplotlib: lines, bars, acceptance at each depth, what lies in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..metrics import Interval
from .columns import COLUMNS
from .outcome import Row
from .study import shown

if TYPE_CHECKING:
    from .pictures import Sketch

COLOURS = (
    "#0b6e99",
    "#c2410c",
    "#4d7c0f",
    "#7e22ce",
    "#b45309",
    "#be185d",
    "#0f766e",
    "#475569",
)
"""As many as a page has properties ``--series-…``; each stands for one of them."""
INK = "#1f2328"
_WIDTH = 9.6
"""Inches, of all pictures alike, so that letters are equally large in all."""
_MARKS = "osD^vPX*"
_OFTEN = 10
"""Draft tokens that have to be tried at a depth for their share to be drawn."""
_ACROSS = 3
"""Panels of a grid beside each other."""
_WIDE = 50
"""Largest over smallest from which lines or a panel of a grid have a logarithmic axis."""
_MEMORY = ("target weights", "drafter weights", "KV of the target", "KV of the drafter", "stores")


def draw(sketch: Sketch, rows: Sequence[Row]) -> Any:
    """Return the figure of a picture."""
    import matplotlib as mpl

    mpl.use("agg")
    style: Any = _STYLE
    with mpl.rc_context(style):
        return PLOTS[sketch.kind](sketch, rows)


_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "figure.facecolor": "#ffffff",
    "axes.facecolor": "#ffffff",
}


def _subplots(rows: int, columns: int, height: float = 3.1) -> Any:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        rows, columns, figsize=(_WIDTH, height * rows), squeeze=False, layout="constrained"
    )
    plt.close(figure)  # it is no longer anybody's current figure, but can still be saved
    return figure, axes


def _value(row: Row, name: str) -> tuple[float, float, float] | None:
    """Return the value of a column with the ends of its bar of error."""
    found = COLUMNS[name].value(row)
    if found is None or isinstance(found, str | list):
        return None
    if isinstance(found, Interval):
        low = found.value if found.low is None else found.low
        high = found.value if found.high is None else found.high
        return found.value, found.value - low, high - found.value
    if isinstance(found, Mapping):
        spread = float(found.get("std", 0.0))
        return float(found.get("mean", found.get("p50", 0.0))), spread, spread
    return float(found), 0.0, 0.0


def _key(row: Row, name: str) -> str:
    if name == "template":
        return row.template
    if name == "method":
        return row.method
    if name == "kind":
        return row.group or "all"
    return shown(row.axes.get(name, ""))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _panels(sketch: Sketch, rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    if sketch.panels is None:
        return [("", list(rows))]
    axis = sketch.panels
    before = "" if axis in {"kind", "template"} else f"{axis.replace('_', ' ')} "
    names = dict.fromkeys(_key(row, axis) for row in rows)
    return [(before + one, [row for row in rows if _key(row, axis) == one]) for one in names]


def _lines(sketch: Sketch, rows: Sequence[Row]) -> Any:
    panels = _panels(sketch, rows)
    figure, axes = _subplots(len(panels), len(sketch.y))
    for down, (title, members) in enumerate(panels):
        moving = [row for row in members if _along(row, sketch.x) is not None]
        moving = [row for row in moving if not (sketch.levels and row.is_of(sketch.levels))]
        places = list(dict.fromkeys(str(_along(row, sketch.x)) for row in moving))
        numbers = [_number(one) for one in places]
        numeric = all(one is not None for one in numbers)
        for across, name in enumerate(sketch.y):
            ax = axes[down][across]
            for number, series in enumerate(dict.fromkeys(_key(r, sketch.series) for r in moving)):
                mine = [row for row in moving if _key(row, sketch.series) == series]
                points = [(row, _value(row, name)) for row in mine]
                known = [(row, value) for row, value in points if value is not None]
                if not known:
                    continue
                at = [
                    float(place) if numeric else places.index(place)
                    for place in (str(_along(row, sketch.x)) for row, _ in known)
                ]
                values = [value for _, value in known]
                ax.errorbar(
                    at,
                    [one[0] for one in values],
                    yerr=[[one[1] for one in values], [one[2] for one in values]],
                    color=COLOURS[number % len(COLOURS)],
                    marker=_MARKS[number % len(_MARKS)],
                    markersize=4.5,
                    linewidth=1.6,
                    elinewidth=0.9,
                    capsize=2,
                    label=series,
                )
            _levels(ax, sketch, members, name)
            _finish(ax, name, COLUMNS[sketch.x].head if sketch.x in COLUMNS else sketch.x, title)
            _scale(ax, [_value(row, name) for row in members])
            if not numeric:
                ax.set_xticks(range(len(places)), places, rotation=20, ha="right")
            elif len(numbers) <= 8 and sketch.x not in COLUMNS:
                ax.set_xticks([one for one in numbers if one is not None])
            if ax.get_legend_handles_labels()[0] and across == 0:
                ax.legend()
    return figure


def _along(row: Row, name: str) -> str | None:
    """Return where a row stands on an axis, which may be a column; None where it has no place."""
    if name not in COLUMNS:
        return _key(row, name) if name in row.axes else None
    value = _value(row, name)
    return None if value is None else f"{value[0]:.4g}"


def _levels(ax: Any, sketch: Sketch, rows: Sequence[Row], name: str) -> None:
    """Draw methods that have no place on the axis x as level lines."""
    for number, row in enumerate(one for one in rows if one.is_of(sketch.levels)):
        value = _value(row, name)
        if sketch.levels and value is not None:
            style = ("--", ":", "-.")[number % 3]
            ax.axhline(value[0], color=INK, linewidth=1.1, linestyle=style, label=row.template)


def _scale(ax: Any, values: Sequence[tuple[float, float, float] | None]) -> None:
    """Have a logarithmic axis where values are of very different sizes."""
    known = [value[0] for value in values if value is not None and value[0] > 0]
    if known and max(known) > _WIDE * min(known):
        ax.set_yscale("log")


def _finish(ax: Any, name: str, x: str, title: str) -> None:
    ax.set_xlabel(x)
    ax.set_ylabel(COLUMNS[name].head)
    if title:
        ax.set_title(title, loc="left")
    if name.startswith(("speedup", "time_ratio")):
        ax.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
    ax.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)


def _bars(sketch: Sketch, rows: Sequence[Row]) -> Any:
    panels = _panels(sketch, rows)
    longest = max(len(members) for _, members in panels)
    figure, axes = _subplots(len(panels), len(sketch.y), 0.9 + 0.22 * longest)
    for down, (title, members) in enumerate(panels):
        for across, name in enumerate(sketch.y):
            ax = axes[down][across]
            known = [(row, _value(row, name) or (0.0, 0.0, 0.0)) for row in members]
            groups = list(dict.fromkeys(_key(row, sketch.series) for row, _ in known))
            for place, (row, value) in enumerate(known):
                number = groups.index(_key(row, sketch.series)) if len(groups) <= 8 else 0
                ax.barh(
                    place,
                    value[0],
                    xerr=[[value[1]], [value[2]]] if any(value[1:]) else None,
                    color=COLOURS[number % len(COLOURS)],
                    height=0.7,
                    error_kw={"elinewidth": 0.9, "capsize": 2, "ecolor": INK, "color": INK},
                )
            names = [_bar_name(row, sketch) if not across else "" for row, _ in known]
            ax.set_yticks(range(len(known)), names)
            ax.set_ylim(len(known) - 0.4, -0.6)
            ax.set_xlabel(COLUMNS[name].head)
            if title:
                ax.set_title(title, loc="left")
            if name.startswith(("speedup", "time_ratio")):
                ax.axvline(1.0, color=INK, linewidth=0.8, linestyle=":")
            ax.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    return figure


def _bar_name(row: Row, sketch: Sketch) -> str:
    axes = [
        f"{name} {shown(value)}"
        for name, value in row.setting.axes.items()
        if name != sketch.panels and name != "prompts"
    ]
    group = [row.group] if row.group and sketch.panels != "kind" else []
    return ", ".join([row.method, *axes, *group])


def _depths(sketch: Sketch, rows: Sequence[Row]) -> Any:
    """Draw how often a draft token is accepted at each depth, once all before it were."""
    panels = _panels(sketch, [row for row in rows if _shares(row)])
    if not any(members for _, members in panels):
        return None
    figure, axes = _subplots(len(panels), 1, 3.6)
    for down, (title, members) in enumerate(panels):
        ax = axes[down][0]
        for number, row in enumerate(members[: len(COLOURS)]):
            shares = _shares(row)
            ax.plot(
                range(1, len(shares) + 1),
                shares,
                color=COLOURS[number],
                marker=_MARKS[number],
                markersize=4,
                linewidth=1.5,
                label=_bar_name(row, sketch),
            )
        ax.set_ylim(0, 1.02)
        ax.set_xlabel("depth of the draft token")
        ax.set_ylabel("accepted, where it was tried")
        if title:
            ax.set_title(title, loc="left")
        ax.legend()
        ax.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    return figure


def _shares(row: Row) -> list[float]:
    """Return acceptance at each depth that was tried often enough to say."""
    tried: list[int] = row.figure("per_depth_tried") or []
    often = sum(1 for _ in itertools.takewhile(lambda count: count >= _OFTEN, tried))
    return list((row.figure("per_depth_acceptance") or [])[: min(often, 16)])


def _memory(sketch: Sketch, rows: Sequence[Row]) -> Any:
    """Draw what lies in memory, component by component."""
    figure, axes = _subplots(1, 1, 1.2 + 0.22 * len(rows))
    ax = axes[0][0]
    for place, row in enumerate(rows):
        left = 0.0
        parts = [
            (row.figure("weights") or 0) - (row.figure("drafter_weights") or 0),
            row.figure("drafter_weights") or 0,
            row.figure("target_kv") or 0,
            row.figure("drafter_kv_bytes") or 0,
            row.figure("store_bytes") or 0,
        ]
        for number, size in enumerate(parts):
            ax.barh(
                place,
                size / 1e6,
                left=left,
                height=0.7,
                color=COLOURS[number],
                label=_MEMORY[number] if place == 0 else None,
            )
            left += size / 1e6
    ax.set_yticks(range(len(rows)), [_bar_name(row, sketch) for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("MB")
    figure.legend(loc="outside lower center", ncols=5)
    ax.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    return figure


def _grid(sketch: Sketch, rows: Sequence[Row]) -> Any:
    """Draw bars of each value of an axis, a panel for each column, three beside each other."""
    places = list(dict.fromkeys(_key(row, sketch.x) for row in rows if sketch.x in row.axes))
    series = list(dict.fromkeys(_key(row, sketch.series) for row in rows if sketch.x in row.axes))
    down = -(-len(sketch.y) // _ACROSS)
    figure, axes = _subplots(down, _ACROSS, 2.6)
    thick = 0.8 / max(1, len(series))
    for number, name in enumerate(sketch.y):
        ax = axes[number // _ACROSS][number % _ACROSS]
        drawn = set()
        for row in rows:
            value = _value(row, name)
            if sketch.x not in row.axes or value is None:
                continue
            which = series.index(_key(row, sketch.series))
            at = places.index(_key(row, sketch.x)) + (which - (len(series) - 1) / 2) * thick
            ax.bar(
                at,
                value[0],
                yerr=[[value[1]], [value[2]]] if any(value[1:]) else None,
                color=COLOURS[which % len(COLOURS)],
                width=0.9 * thick,
                label=None if which in drawn else series[which].replace(f" in {{{sketch.x}}}", ""),
                error_kw={"elinewidth": 0.8, "capsize": 1.5, "ecolor": INK, "color": INK},
            )
            drawn.add(which)
        ax.set_xticks(range(len(places)), places, rotation=35, ha="right")
        ax.set_title(COLUMNS[name].head.partition(" [")[0], loc="left")
        ax.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        if name.startswith(("speedup", "time_ratio")):
            ax.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
        heights = [bar.get_height() for bar in ax.patches if bar.get_height() > 0]
        if heights and max(heights) > _WIDE * min(heights):
            ax.set_yscale("log")
            ax.set_ylim(bottom=min(heights) / 3)
    for number in range(len(sketch.y), down * _ACROSS):
        axes[number // _ACROSS][number % _ACROSS].set_axis_off()
    if len(series) > 1:
        handles, labels = max(
            (ax.get_legend_handles_labels() for line in axes for ax in line),
            key=lambda one: len(one[0]),
        )
        axis = sketch.series
        title = None if axis in {"template", "kind"} else axis.replace("_", " ")
        figure.legend(handles, labels, loc="outside lower center", ncols=4, title=title)
    return figure


PLOTS: Mapping[str, Callable[[Sketch, Sequence[Row]], Any]] = {
    "lines": _lines,
    "bars": _bars,
    "depths": _depths,
    "memory": _memory,
    "grid": _grid,
}
"""How each kind of picture is drawn."""
