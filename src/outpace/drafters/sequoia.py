"""The best tree for what was measured of a pair (Sequoia, arXiv 2402.12374)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import InvalidArgument
from ..lengths.costs import Costs
from ..types import Draw, Round
from .pair import RANKS, Pair, Ranks
from .shape import Shape
from .steering import Steering

FIRST, LAST = 32, 8192
"""Visited nodes before the first plan; it is made anew at every doubling up to the last."""

Template = tuple[tuple[int, ...], ...]


class Planning(Steering):
    """A shape worked out from the acceptance by rank and the costs of both models.

    Until enough nodes were visited, broad trees of two levels are drafted to find out which
    children stand. The plan of a pair is kept between texts and runs.

    Args:
        shape: the most nodes and levels.
    """

    def __init__(self, shape: Shape) -> None:
        self._pair: Pair | None = None
        self._plans: dict[str, Shape] = {}
        self._due: dict[str, int] = {}
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
        for draw, ranks in pair.ranks.items():
            self._plan(draw, ranks, pair)

    def shape_for(self, draw: Draw) -> Shape:
        """Return the plan for a way of drawing children, or a broad tree to learn from."""
        if draw in self._plans:
            return self._plans[draw]
        given = self._given
        return Shape(depth=min(2, given.depth), branch=RANKS, nodes=given.nodes)

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
        if ranks.tries[0] >= self._due.get(draw, FIRST):
            self._plan(draw, ranks, self._pair)
            self._pair.save()

    def _plan(self, draw: str, ranks: Ranks, pair: Pair) -> None:
        known = ranks.tries[0]
        if known < FIRST:
            return
        self._due[draw] = 2 * known
        given = self._given
        best = best_tree(ranks.shares, pair.verifying, pair.drafting, given.nodes, given.depth)
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
    made = [table.tree(size, levels) for size in sorted(sizes) for levels in range(1, depth + 1)]
    trees = [tree for tree in made if len(tree) > 1] or [((1,), ())]

    def speed(tree: Template) -> float:
        seconds = Costs(verifying).verify(len(tree)) + sum(
            Costs(drafting).verify(width) for width in level_widths(tree)
        )
        return (1 + expected(tree, shares)) / seconds

    return max(trees, key=speed)


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


@dataclass(slots=True)
class _Step:
    """The best for so many nodes: what it yields, and how many of them go below the next child."""

    value: float = 0.0
    first: int = 0


class _Table:
    """The dynamic programme: which subtree of so many nodes and levels yields most.

    ``below[d][b][m]`` is the best that m nodes can do as children of ranks b, b + 1, … of a node
    with d levels below it; a child that gets s of the nodes yields share_b · (1 + what the other
    s − 1 yield below it). Right for any shares, also where a later child stands more often.
    """

    def __init__(self, shares: Sequence[float], nodes: int, depth: int) -> None:
        ranks = len(shares)
        nothing = [[_Step() for _ in range(nodes + 1)] for _ in range(ranks + 1)]
        self._below = [nothing]
        for _ in range(depth):
            deeper = self._below[-1][0]
            level = [[_Step() for _ in range(nodes + 1)] for _ in range(ranks + 1)]
            for rank in reversed(range(ranks)):
                for left in range(1, nodes + 1):
                    level[rank][left] = max(
                        (
                            _Step(
                                shares[rank] * (1 + deeper[size - 1].value)
                                + level[rank + 1][left - size].value,
                                size,
                            )
                            for size in range(1, left + 1)
                        ),
                        key=lambda step: step.value,
                    )
            self._below.append(level)

    def tree(self, nodes: int, depth: int) -> Template:
        """Return the best tree of at most so many nodes and levels, numbered level by level."""
        children: list[list[int]] = [[]]
        level = [(0, nodes)]
        for left in range(depth, 0, -1):
            below = self._below[left]
            next_level = []
            for node, budget in level:
                rank = 0
                while budget and below[rank][budget].value > 0:
                    size = below[rank][budget].first
                    child = len(children)
                    children.append([])
                    children[node].append(child)
                    next_level.append((child, size - 1))
                    budget -= size
                    rank += 1
            level = next_level
        return tuple(tuple(below) for below in children)
