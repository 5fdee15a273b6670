"""The best tree for what was measured of a pair (Sequoia, arXiv 2402.12374)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..errors import InvalidArgument
from ..lengths.costs import Costs
from ..types import Draw, Round
from .pair import Pair, Ranks
from .shape import Shape
from .steering import Steering

FIRST, LAST = 32, 8192
"""Visited nodes before the plan is made anew, and at every doubling up to the last."""
STEADY = 0.9
"""The weight of rounds before, in what the host takes for a level of a tree."""

Template = tuple[tuple[int, ...], ...]


class Planning(Steering):
    """A shape worked out from the acceptance by rank and the costs of both models.

    The first plan of a pair goes by what is usual; it is kept between texts and runs.

    Args:
        shape: the most nodes and levels.
    """

    def __init__(self, shape: Shape) -> None:
        self._pair: Pair | None = None
        self._plans: dict[str, Shape] = {}
        self._due: dict[str, int] = {}
        self._drafting = Costs({1: 0.0})  # of forwards of the drafter, by width
        self._host: float | None = None  # seconds of a level beyond its forward
        super().__init__(shape)

    def attach(self, pair: Pair) -> None:
        """Take over what is known of a pair.

        Raises:
            InvalidArgument: the plans of another target are under way.
        """
        if self._pair is not None and self._pair.path != pair.path:
            raise InvalidArgument(
                "this drafter plans its trees for another target: make a TreeDrafter for each"
            )
        self._pair = pair
        self._plans, self._due = {}, {}
        for draw in ("deterministic", *pair.ranks):
            self._plan(draw, pair)

    def shape_for(self, draw: Draw) -> Shape:
        """Return the plan for a way of drawing children."""
        if draw not in self._plans:
            if self._pair is None:
                raise InvalidArgument("no target yet: give the drafter to a Decoder")
            self._plan(draw, self._pair)
        return self._plans[draw]

    @property
    def plans(self) -> dict[str, Template]:
        """The trees that are drafted now, by the way of drawing."""
        made = {draw: shape.template for draw, shape in self._plans.items()}
        return {draw: template for draw, template in made.items() if template is not None}

    @property
    def shares(self) -> dict[str, list[float]]:
        """How often the child of each rank was accepted so far, by the way of drawing."""
        ranks = {} if self._pair is None else self._pair.ranks
        return {draw: one.shares for draw, one in ranks.items()}

    def observe(self, turn: Round) -> None:
        """Count which children stood; plan anew when twice as much is known."""
        if self._pair is None or not turn.drafted:
            return
        draw = turn.tree.draw
        ranks = self._pair.ranks.setdefault(draw, Ranks())
        if ranks.tries[0] >= LAST:
            return
        ranks.add(turn)
        self._time(turn)
        if ranks.tries[0] >= self._due[draw]:
            self._plan(draw, self._pair)
            self._pair.save()

    def _time(self, turn: Round) -> None:
        """Learn what a level takes beyond its forward; a stall is not taken for it."""
        template = self._plans[turn.tree.draw].template
        assert template is not None
        widths = level_widths(template)
        usual = sum(map(self._drafting.verify, widths))
        beyond = (turn.times.drafted - turn.times.started - usual) / max(1, len(widths))
        found = min(max(0.0, beyond), usual)
        self._host = found if self._host is None else STEADY * self._host + (1 - STEADY) * found

    def _plan(self, draw: str, pair: Pair) -> None:
        ranks = pair.ranks.get(draw, Ranks())
        self._due[draw] = max(FIRST, 2 * ranks.tries[0])
        given, host = self._given, self._host or 0.0
        self._drafting = Costs(pair.drafting)
        drafting = {width: cost + host for width, cost in self._drafting.verifying.items()}
        best = best_tree(ranks.shares, pair.verifying, drafting, given.nodes, given.depth)
        self._plans[draw] = replace(given, template=best)


def best_tree(
    shares: Sequence[float],
    verifying: Mapping[int, float],
    drafting: Mapping[int, float],
    nodes: int,
    depth: int,
) -> Template:
    """Return the tree that writes most tokens a second.

    Args:
        shares: how often the child of each rank is the one that stands.
        verifying: seconds of a forward of the target by width. Between two widths lies a step, so
            only trees that fill a width are looked at.
        drafting: the same of the drafter, one forward a level.
        nodes: draft tokens at most.
        depth: levels at most.

    Returns:
        The children of each node, numbered level by level; node 0 is the root. There is one at
        least, even if none was ever accepted: what is not drafted cannot be learnt about.
    """
    table = _Table(shares, nodes, depth)
    sizes = {width - 1 for width in verifying if 1 < width <= nodes} | {nodes}
    target, drafter = Costs(verifying), Costs(drafting)

    def at_most(plan: tuple[int, int]) -> float:
        """Return more than its speed, before there is a tree: with levels of one node each."""
        size, levels = plan
        return (1 + table.value(size, levels)) / (
            target.verify(size + 1) + levels * drafter.verify(1)
        )

    def speed(tree: Template) -> float:
        widths = level_widths(tree)
        seconds = target.verify(len(tree)) + sum(map(drafter.verify, widths))
        return (1 + expected(tree, shares)) / seconds

    best: Template = ((1,), ())
    fastest = 0.0
    plans = [(size, levels) for size in sorted(sizes) for levels in range(1, depth + 1)]
    for plan in sorted(plans, key=at_most, reverse=True):
        if at_most(plan) < fastest:
            break
        tree = table.tree(*plan)
        if len(tree) > 1 and speed(tree) > fastest:
            best, fastest = tree, speed(tree)
    return best


def expected(tree: Template, shares: Sequence[float]) -> float:
    """Return how many nodes of a tree are accepted on average."""
    reached = [1.0] + [0.0] * (len(tree) - 1)
    for node, children in enumerate(tree):
        for rank, child in enumerate(children):
            reached[child] = reached[node] * shares[rank]
    return sum(reached[1:])


def level_widths(tree: Template) -> list[int]:
    """Return how many nodes of each level get children, one forward each; the root is the first."""
    widths, level = [], [0]
    while growing := [node for node in level if tree[node]]:
        widths.append(len(growing))
        level = [child for node in growing for child in tree[node]]
    return widths


class _Table:
    """The dynamic programme: which subtree of so many nodes and levels yields most.

    ``values[d][b, m]`` is the best that m nodes can do as children of ranks b, b + 1, … of a node
    with d levels below it; a child that gets s of the nodes yields share_b · (1 + what the other
    s − 1 yield below it). Right for any shares, also where a later child stands more often.
    """

    def __init__(self, shares: Sequence[float], nodes: int, depth: int) -> None:
        ranks, counts = len(shares), np.arange(nodes + 1)
        left = counts[:, None] - counts[None, 1:]  # [m, s]: what is left of m past a child's s
        possible = left >= 0
        self._values = [np.zeros((ranks + 1, nodes + 1))]
        self._sizes = [np.zeros((ranks + 1, nodes + 1), dtype=np.int64)]  # of the next child
        for _ in range(depth):
            deeper = self._values[-1][0]
            values, sizes = np.zeros_like(self._values[0]), np.zeros_like(self._sizes[0])
            for rank in reversed(range(ranks)):
                child = shares[rank] * (1 + deeper[:-1])
                rest = np.where(possible, values[rank + 1][left], -np.inf)
                whole = (child + rest)[1:]
                values[rank, 1:], sizes[rank, 1:] = whole.max(axis=1), whole.argmax(axis=1) + 1
            self._values.append(values)
            self._sizes.append(sizes)

    def value(self, nodes: int, depth: int) -> float:
        """Return how many nodes of that tree are accepted on average."""
        return float(self._values[depth][0, nodes])

    def tree(self, nodes: int, depth: int) -> Template:
        """Return the best tree of at most so many nodes and levels, numbered level by level."""
        children: list[list[int]] = [[]]
        level = [(0, nodes)]
        for left in range(depth, 0, -1):
            values, sizes = self._values[left], self._sizes[left]
            next_level = []
            for node, budget in level:
                rank = 0
                while budget and values[rank, budget] > 0:
                    size = int(sizes[rank, budget])
                    child = len(children)
                    children.append([])
                    children[node].append(child)
                    next_level.append((child, size - 1))
                    budget -= size
                    rank += 1
            level = next_level
        return tuple(tuple(below) for below in children)
