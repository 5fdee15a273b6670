"""Shapes of token trees: how deep and how broad to draft, as values."""

from __future__ import annotations

import ast
import inspect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidArgument
from ..lengths.fixed import MAX_LENGTH
from ..registry import unknown_among
from ..types import Draw, Round


@dataclass(frozen=True, slots=True)
class Breadth:
    """One child below a sure node, more below an unsure one.

    Attributes:
        high: from this probability of the best child on, ``least`` children.
        low: up to this probability, ``most`` children; between the two, one more than ``least``.
    """

    high: float = 0.9
    low: float = 0.4
    least: int = 1
    most: int = 3

    def __post_init__(self) -> None:
        _share("high", self.high)
        _share("low", self.low)
        _need(self.low <= self.high, f"low {self.low} above high {self.high}: give low <= high")
        _count("least", self.least)
        _need(self.most >= self.least, f"most {self.most}: give least ({self.least}) or more")

    def children(self, best: float) -> int:
        """Return how many children a node gets whose best child has this probability."""
        if best >= self.high:
            return self.least
        return self.most if best <= self.low else min(self.least + 1, self.most)


@dataclass(frozen=True, slots=True)
class Deepening:
    """Down to ``base`` paths of a probability of ``stop`` go on, below it those of ``deepen``."""

    stop: float = 0.1
    deepen: float = 0.5
    base: int = 5

    def __post_init__(self) -> None:
        _share("stop", self.stop)
        _share("deepen", self.deepen)
        _count("base", self.base)


@dataclass(frozen=True, slots=True)
class History:
    """Depth and thresholds follow the share of the depth that was accepted of late.

    Attributes:
        window: how many rounds are looked back on.
        target: the mean share to hold.
        step: how far thresholds move at a time; the depth moves by one level.
        band: no change while the mean is within ``target`` ± ``band``.
    """

    window: int = 10
    target: float = 0.7
    step: float = 0.05
    band: float = 0.1

    def __post_init__(self) -> None:
        _count("window", self.window)
        for name in ("target", "step", "band"):
            _share(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class Shape:
    """How a tree grows, level by level; every part but the first three may be left out.

    Attributes:
        depth: levels below the root.
        branch: children a node.
        nodes: draft tokens in all, at most; the surest branches are served first.
        tau: a path less probable than this gets no children.
        breadth: children by how sure the drafter is, instead of ``branch``.
        deepening: which paths go on, by their probability and depth.
        history: depth and thresholds follow the acceptance.
        keep: None, or draft ``branch`` children of the ``branch`` best nodes of every level, and
            hand on the ``keep`` best of all (EAGLE-2, arXiv 2406.16858).
        planned: the tree is worked out from what was measured (:mod:`outpace.drafters.sequoia`).
        template: the children of each node of one fixed tree, numbered level by level.

    Raises:
        InvalidArgument: a value out of range, a node cap under the depth, or parts that do not go
            together.
    """

    depth: int = 4
    branch: int = 2
    nodes: int = MAX_LENGTH
    tau: float = 0.0
    breadth: Breadth | None = None
    deepening: Deepening | None = None
    history: History | None = None
    keep: int | None = None
    planned: bool = False
    template: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        for name in ("depth", "branch", "nodes"):
            _count(name, getattr(self, name))
        _share("tau", self.tau)
        _need(self.nodes <= MAX_LENGTH, f"nodes {self.nodes}: give {MAX_LENGTH} or fewer")
        most = self.nodes if self.keep is None else self.keep
        _need(
            most >= self.depth,
            f"{most} nodes for a depth of {self.depth}: a tree has a node a level, give more nodes "
            "or less depth",
        )
        others = self.tau or self.breadth or self.deepening or self.history or self.keep
        _need(
            not (self.planned and others),
            "sequoia plans the whole tree: give no other shape beside it",
        )

    @property
    def looks_at_what_was_drawn(self) -> bool:
        """Whether a drawn token can be dropped for its own probability: no law is left then."""
        return self.keep is not None

    def grows(self, depth: int, paths: Sequence[float], places: Sequence[int]) -> list[int]:
        """Return which nodes of a level get children, by number, the surest first.

        Args:
            depth: of the level, from 1.
            paths: the probability of the path to each node.
            places: where each node stands in the template; 0 without one.
        """
        order = sorted(range(len(paths)), key=lambda node: -paths[node])
        if self.template is not None:
            return [node for node in order if self.template[places[node]]]
        least = self.tau
        if self.deepening is not None:
            deeper = self.deepening
            least = max(least, deeper.stop if depth < deeper.base else deeper.deepen)
        growing = [node for node in order if paths[node] >= least]
        return growing if self.keep is None else growing[: self.branch]

    def children(self, best: float, place: int) -> int:
        """Return how many children a node gets.

        Args:
            best: the probability of its best child.
            place: where the node stands in the template; 0 without one.
        """
        if self.template is not None:
            return len(self.template[place])
        return self.branch if self.breadth is None else self.breadth.children(best)

    def place(self, parent: int, rank: int) -> int:
        """Return where the child of this rank stands in the template; 0 without one."""
        return 0 if self.template is None else self.template[parent][rank]

    @property
    def widest(self) -> int:
        """The most children a node can get."""
        if self.template is not None:
            return max(map(len, self.template))
        return self.branch if self.breadth is None else self.breadth.most


class Steering:
    """A shape that follows the acceptance, if it has a :class:`History`."""

    def __init__(self, shape: Shape) -> None:
        self._given = shape
        self.reset()

    def reset(self) -> None:
        """Go back to the shape as it was given."""
        self._shape = self._given
        self._notch = 0
        history = self._given.history
        self._shares: deque[float] = deque(maxlen=history.window if history else 1)

    def shape_for(self, draw: Draw) -> Shape:
        """Return the shape to draft with now, children drawn in this way."""
        return self._shape

    def observe(self, turn: Round) -> None:
        """Learn what share of its depth a round had accepted; one without a draft says nothing."""
        history = self._given.history
        if history is None or not turn.drafted:
            return
        self._shares.append(len(turn.verdict.path) / turn.tree.deepest())
        if len(self._shares) < history.window:
            return
        mean = sum(self._shares) / len(self._shares)
        if abs(mean - history.target) <= history.band:
            return
        self._notch += 1 if mean > history.target else -1
        given = self._given
        most = min(2 * given.depth, given.nodes if given.keep is None else given.keep)
        self._notch = max(1 - given.depth, min(most - given.depth, self._notch))
        shift = -history.step * self._notch
        deeper = given.deepening
        if deeper is not None:
            deeper = replace(
                deeper,
                stop=_within(deeper.stop + shift),
                deepen=_within(deeper.deepen + shift),
                base=max(1, deeper.base + self._notch),
            )
        self._shape = replace(
            given,
            depth=given.depth + self._notch,
            tau=_within(given.tau + shift) if given.tau else 0.0,
            deepening=deeper,
        )


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
    _need(most >= base, f"most {most}: give base ({base}) or more")
    return {"depth": most, "deepening": Deepening(stop, deepen, base)}


def history(
    window: int = 10, target: float = 0.7, step: float = 0.05, band: float = 0.1
) -> dict[str, Any]:
    """Depth and thresholds follow the acceptance."""
    return {"history": History(window, target, step, band)}


def best_first(nodes: int = 31, depth: int = 6, width: int = 8) -> dict[str, Any]:
    """The ``nodes`` best of what ``width`` children of the ``width`` best nodes a level give."""
    return {"depth": depth, "branch": width, "keep": nodes}


def sequoia(nodes: int = 31, depth: int = 8) -> dict[str, Any]:
    """The best tree of so many nodes and levels, or fewer, for this pair on this machine."""
    return {"depth": depth, "nodes": nodes, "planned": True}


SHAPES: Mapping[str, Callable[..., dict[str, Any]]] = {
    one.__name__: one
    for one in (fixed, pruned, adaptive_breadth, dynamic_depth, history, best_first, sequoia)
}


def parse_shape(text: str) -> Shape:
    """Return a shape from ``NAME(KEY=VALUE, …)``, or several joined by ``+``, the later ones first.

    Raises:
        InvalidArgument: an unknown name or key, or a value out of range.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        tree = None
    parts: list[ast.expr] = []
    while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add):
        parts.insert(0, tree.right)
        tree = tree.left
    if tree is None:
        raise InvalidArgument(_unreadable(text))
    known: dict[str, Any] = {}
    for part in (tree, *parts):
        known |= _part(part, text)
    return Shape(**known)


def _part(part: ast.expr, text: str) -> dict[str, Any]:
    call = part if isinstance(part, ast.Call) else ast.Call(part, [], [])
    if not isinstance(call.func, ast.Name) or call.args:
        raise InvalidArgument(_unreadable(text))
    name = call.func.id
    if name not in SHAPES:
        raise InvalidArgument(unknown_among("tree shape", name, sorted(SHAPES)))
    allowed = inspect.signature(SHAPES[name]).parameters
    values: dict[str, Any] = {}
    for keyword in call.keywords:
        key = keyword.arg or "**"
        if key not in allowed:
            raise InvalidArgument(unknown_among(f"setting of {name}", key, list(allowed)))
        try:
            value = ast.literal_eval(keyword.value)
        except ValueError:
            value = None
        whole = isinstance(allowed[key].default, int)
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            given = ast.unparse(keyword.value)
            kind = "a whole number" if whole else "a number"
            raise InvalidArgument(f"{name}: {key} {given}: give {kind}")
        values[key] = value
    return SHAPES[name](**values)


def _unreadable(text: str) -> str:
    return (
        f"tree shape {text!r}: give NAME(KEY=VALUE, ...), as in pruned(depth=8, branch=3, tau=0.03)"
    )


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidArgument(message)


def _count(name: str, value: int) -> None:
    _need(value >= 1, f"{name} {value}: give 1 or more")


def _share(name: str, value: float) -> None:
    _need(0 <= value <= 1, f"{name} {value}: give a number 0 to 1")


def _within(share: float) -> float:
    return min(0.99, max(0.01, share))
