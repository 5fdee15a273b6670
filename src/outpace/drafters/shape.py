"""Shapes of token trees: how deep and how broad to draft, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from ..errors import InvalidArgument
from ..lengths.fixed import MAX_LENGTH


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
        check_count("least", self.least)
        check_count("most", self.most)
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
        check_count("base", self.base)


@dataclass(frozen=True, slots=True)
class History:
    """Depth and thresholds follow the share of the depth that was accepted of late.

    The depth goes from one level to twice what was given; with a :class:`Deepening` its base moves
    instead, up to the depth. ``tau``, ``stop`` and ``deepen`` sink as it rises; 0 stays 0.

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
        check_count("window", self.window, most=None)
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
            check_count(name, getattr(self, name))
        _share("tau", self.tau)
        most = self.nodes
        if self.keep is not None:
            check_count("nodes", self.keep)
            most = self.keep
        _need(
            most >= self.depth,
            f"{most} nodes for a depth of {self.depth}: a tree has a node a level, give more nodes "
            "or less depth",
        )
        others = self.tau or self.breadth or self.deepening or self.history or self.keep
        _need(
            not (self.planned and others),
            "sequoia plans the whole tree: give no tau, breadth, depth or history beside it",
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


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidArgument(message)


def check_count(name: str, value: Any, most: int | None = MAX_LENGTH) -> None:
    """Raise InvalidArgument for a number of nodes, levels or children that no tree can have."""
    right = isinstance(value, Integral) and not isinstance(value, bool)
    _need(right, f"{name} {value!r}: give a whole number")
    _need(value >= 1, f"{name} {value}: give 1 or more")
    _need(most is None or value <= most, f"{name} {value}: give {most} or fewer")


def _share(name: str, value: Any) -> None:
    right = isinstance(value, Real) and not isinstance(value, bool)
    _need(right and 0 <= value <= 1, f"{name} {value!r}: give a number 0 to 1")
