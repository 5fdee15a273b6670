"""Heat maps over layers and heads, drawn by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..studies.pictures import as_png, as_svg
from .analysis import Heads
from .classes import CLASSES, classify, importance
from .head import MEASURES

COLOURS = {
    "positional sink": "#0b6e99",
    "positional": "#7cc4e0",
    "mixed sink": "#7e22ce",
    "gathering": "#c2410c",
    "dead": "#9aa4ae",
    "mixed": "#e3d6a5",
}
"""Of the classes."""
TITLES = {
    "entropy": "Entropy (nats)",
    "relative entropy": "Entropy, of the most there could be",
    "maximum": "Largest weight of a row",
    "first": "On the first token",
    "sinks": "On the first 4 tokens",
    "aside": "On no token (the model's own sink)",
    "recent": "On the last 8 tokens",
    "local": "On the last 256, but for the last 8",
    "global": "On the rest: global",
    "distance": "Mean distance / position",
    "window 24": "On the last 24 tokens",
    "window 64": "On the last 64 tokens",
    "window 256": "On the last 256 tokens",
    "importance": "Importance",
    "classes": "Classes",
}
OVERVIEW = ("relative entropy", "maximum", "sinks", "recent", "local", "global", "distance")
"""Measures of the picture that has several, before the classes."""
_INK = "#1f2328"
_NOTHING = 1e-3
"""Share up to which there is no map of what a sink score of the model takes."""
_UNBOUNDED = "entropy"
"""The measure that is no share."""


def pictures(found: Heads) -> dict[str, Any]:
    """Return figures of matplotlib by the name of a file: one a measure, and ``overview``."""
    measures = [name for name in MEASURES if name != "window 8"]  # that is recent
    if not any(head.aside > _NOTHING for layer in found.layers for head in layer):
        measures.remove("aside")
    single = {name: [name] for name in (*measures, "importance", "classes")}
    grids = {**single, "overview": [*OVERVIEW, "classes"]}
    return {name.replace(" ", "-"): _figure(found, names) for name, names in grids.items()}


def files(found: Heads) -> dict[str, str | bytes]:
    """Return the contents of all picture files by name, SVG and PNG."""
    made: dict[str, str | bytes] = {}
    for name, figure in pictures(found).items():
        made[f"{name}.svg"] = as_svg(figure)
        made[f"{name}.png"] = as_png(figure)
    return made


def _figure(found: Heads, names: Sequence[str]) -> Any:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    across = min(4, len(names))
    down = math.ceil(len(names) / across)
    heads = max(map(len, found.layers))
    width = 2.4 * across if across > 1 else 1.8 + min(9.0, max(2.4, 0.28 * heads))
    tall = 0.9 + min(9.0, max(1.4, 0.28 * len(found.layers)))
    style: Any = {
        "font.size": 8,
        "axes.titlesize": 8,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
    }
    with mpl.rc_context(style):
        figure, axes = plt.subplots(
            down, across, figsize=(width, tall * down), squeeze=False, layout="constrained"
        )
        for axis in axes.flat[len(names) :]:
            axis.set_visible(False)
        for name, axis in zip(names, axes.flat, strict=False):
            if name == "classes":
                _draw_classes(found, figure, axis)
            else:
                _draw(found, name, figure, axis)
            axis.set_title(TITLES[name])
            axis.set_xlabel("head")
            axis.set_ylabel("layer")
        plt.close(figure)  # it is no longer anybody's current figure, but can still be saved
    return figure


def _draw(found: Heads, name: str, figure: Any, axis: Any) -> None:
    """Draw a measure: one cell a head, the first layer on top."""
    values = found.of_all(importance if name == "importance" else MEASURES[name])
    highest = None if name == _UNBOUNDED else 1.0
    cells = axis.pcolormesh(_even(values), cmap="viridis", vmin=0.0, vmax=highest)
    _label(axis, values)
    figure.colorbar(cells, ax=axis)


def _draw_classes(found: Heads, figure: Any, axis: Any) -> None:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    values = found.of_all(lambda head: CLASSES.index(classify(head)))
    colours = ListedColormap([COLOURS[name] for name in CLASSES])
    axis.pcolormesh(_even(values), cmap=colours, vmin=-0.5, vmax=len(CLASSES) - 0.5)
    _label(axis, values)
    there = sorted({number for layer in values for number in layer})
    patches = [Patch(color=COLOURS[CLASSES[one]], label=CLASSES[one]) for one in there]
    axis.legend(
        handles=patches,
        fontsize=7,
        frameon=False,
        ncols=2,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),  # beside the map it would push the bars of other maps away
    )


def _even(values: Sequence[Sequence[float]]) -> Any:
    """Return ``[layers, heads]``; where a layer has fewer heads than others, nothing."""
    import numpy as np

    widest = max(map(len, values))
    rows = [[*layer, *([math.nan] * (widest - len(layer)))] for layer in values]
    return np.ma.masked_invalid(np.array(rows, dtype=float))


def _label(axis: Any, values: Sequence[Sequence[float]]) -> None:
    """Number heads and layers from 0, at the middle of their cells, and not too many."""
    heads, layers = max(map(len, values)), len(values)
    for count, ticks in ((heads, axis.set_xticks), (layers, axis.set_yticks)):
        step = math.ceil(count / 16)
        numbers = range(0, count, step)
        ticks([number + 0.5 for number in numbers], [str(number) for number in numbers])
    axis.tick_params(length=0)
    axis.invert_yaxis()
