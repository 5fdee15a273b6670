"""Shapes by name: ``pruned(depth=8, branch=3, tau=0.03) + adaptive_breadth``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..calls import Call, parse_call, split
from ..errors import InvalidArgument
from ..lengths.fixed import MAX_LENGTH
from ..registry import unknown_among
from .shape import Breadth, Deepening, History, Shape, check_count

_EXAMPLE = "pruned(depth=8, branch=3, tau=0.03)"


def fixed(depth: int = 4, branch: int = 2, nodes: int = MAX_LENGTH) -> dict[str, Any]:
    """Every node has ``branch`` children, ``depth`` levels down."""
    return {"depth": depth, "branch": branch, "nodes": nodes}


def pruned(
    depth: int = 8, branch: int = 3, tau: float = 0.03, nodes: int = MAX_LENGTH
) -> dict[str, Any]:
    """Paths less probable than ``tau`` get no children."""
    return {"depth": depth, "branch": branch, "tau": tau, "nodes": nodes}


def adaptive_breadth(
    high: float = 0.9, low: float = 0.4, least: int = 1, most: int = 3
) -> dict[str, Any]:
    """One child below a sure node, up to ``most`` below an unsure one."""
    return {"breadth": Breadth(high, low, least, most)}


def dynamic_depth(
    stop: float = 0.1, deepen: float = 0.5, base: int = 5, most: int = 9
) -> dict[str, Any]:
    """Paths under ``stop`` end; below ``base`` levels only those over ``deepen`` go on."""
    check_count("most", most)
    if most < base:
        raise InvalidArgument(f"most {most}: give base ({base}) or more")
    return {"depth": most, "deepening": Deepening(stop, deepen, base)}


def history(
    window: int = 10, target: float = 0.7, step: float = 0.05, band: float = 0.1
) -> dict[str, Any]:
    """Depth and thresholds follow the acceptance."""
    return {"history": History(window, target, step, band)}


def best_first(nodes: int = 31, depth: int = 6, width: int = 8) -> dict[str, Any]:
    """The ``nodes`` best of what ``width`` children of the ``width`` best nodes a level give."""
    check_count("width", width)
    return {"depth": depth, "branch": width, "keep": nodes}


def sequoia(nodes: int = 31, depth: int = 8) -> dict[str, Any]:
    """The best tree of so many nodes and levels, or fewer, for this pair on this machine."""
    return {"depth": depth, "nodes": nodes, "planned": True}


SHAPES: Mapping[str, Callable[..., dict[str, Any]]] = {
    one.__name__: one
    for one in (fixed, pruned, adaptive_breadth, dynamic_depth, history, best_first, sequoia)
}


def parse_shape(text: str) -> Shape:
    """Return a shape from ``NAME(KEY=VALUE, …)``, or several joined by ``+``: the later one wins.

    Raises:
        InvalidArgument: an unknown name or key, or a value out of range.
    """
    known: dict[str, Any] = {}
    for number, part in enumerate(split(text, "+")):
        known |= _part(parse_call(part, f"tree shape {text!r}", _EXAMPLE), first=not number)
    return Shape(**known)


def _part(part: Call, *, first: bool) -> dict[str, Any]:
    """Return the fields a part sets; ``fixed`` and ``pruned``, stacked, only those given."""
    if part.name not in SHAPES:
        raise InvalidArgument(unknown_among("tree shape", part.name, sorted(SHAPES)))
    values = part.settings(SHAPES[part.name])
    made = SHAPES[part.name](**values)
    if first or part.name not in {"fixed", "pruned"}:
        return made
    return {key: value for key, value in made.items() if key in values or key == "tau"}
