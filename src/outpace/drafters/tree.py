"""A small language model drafts a token tree, one forward a level.

Trees: SpecInfer (arXiv 2305.09781), Sequoia (2402.12374), EAGLE-2 (2406.16858).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..cache.policies import CachePolicy
from ..drawing import Drawing
from ..errors import InvalidArgument
from ..lengths.fixed import MAX_LENGTH
from ..models import LanguageModel
from ..types import Budget, Context, Round, TokenTree
from .model import ModelDrafter
from .pair import Pair
from .sequoia import Planning, Template
from .shape import Shape
from .shape_names import parse_shape
from .steering import Steering

DEFAULT_SHAPE = "sequoia"


class TreeDrafter(ModelDrafter):
    """Drafts a tree level by level, all nodes of a level in one forward.

    The nodes of the tree that the target accepts stay where they were computed; the next round
    feeds what is not there: the new root, and before it the last accepted node if it was a leaf.

    Under coupled verification the children of a node are the best by ``log q + g`` with the
    target's own noise, and the law that says how sure the drafter is has that noise in it.

    Args:
        model: a language model, loaded or wrapped.
        shape: how to grow: a :class:`Shape`, or its text.
    """

    branches = True
    budget = Budget(MAX_LENGTH, MAX_LENGTH)  # the shape decides

    def __init__(self, model: LanguageModel, shape: Shape | str = DEFAULT_SHAPE) -> None:
        super().__init__(model)
        self.shape = parse_shape(shape) if isinstance(shape, str) else shape
        self._steering = Planning(self.shape) if self.shape.planned else Steering(self.shape)
        self._computed: list[int] = []  # per node of the session's round: its node of the tree

    def attach(self, target: LanguageModel) -> None:
        """Compare the vocabularies; for a shape to be planned, measure both models once."""
        super().attach(target)
        if isinstance(self._steering, Planning):
            self._steering.attach(Pair(target, self.model))

    def hold_by(self, policy: CachePolicy) -> None:
        """Forget keys and values as a policy says.

        Raises:
            InvalidArgument: it goes by attention, of which levels of a tree see a part each.
        """
        if policy.observes != 0:
            raise InvalidArgument(
                f"{type(self).__name__} with cache policy {policy}: it goes by attention, which is "
                "not added up over the levels of a tree: draft a chain, or take streaming or "
                "fixed_key_norm"
            )
        super().hold_by(policy)

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Draft a tree of at most ``budget``."""
        shape, root = self._steering.shape_for(drawing.kind), context.tokens[-1]
        depth = self._depth(context, min(budget.depth, budget.nodes, shape.depth))
        if depth < 1:
            return TokenTree.chain(root, device=self.model.device)
        if shape.looks_at_what_was_drawn:
            drawing = drawing.without_law()
        # either every child counts against a cap, or the best of all are kept in the end
        keep = min(budget.nodes, shape.keep) if shape.keep else None
        cap = min(budget.nodes, shape.nodes) if keep is None else None
        grown = _Growth(root, self.model.device)
        logits = self._catch_up(context)[None]
        self._computed = []
        level = [0]
        for below in range(1, depth + 1):
            level = grown.add(level, logits, shape, drawing, cap)
            paths = [math.exp(grown.scores[node]) for node in level]
            stand = [grown.places[node] for node in level]
            level = [level[number] for number in shape.grows(below, paths, stand)]
            if keep is not None:
                level = grown.promising(level, keep)
            if below == depth or not level or (cap is not None and len(grown.parents) > cap):
                break
            computed = {node: number for number, node in enumerate(self._computed)}
            parents = [computed.get(grown.parents[node], -1) for node in level]
            logits = self._session.branch(grown.tokens(level), parents, below)
            self._computed += level
        kept = list(range(len(grown.parents))) if keep is None else grown.best(keep)
        places = {node: number for number, node in enumerate(kept)}
        self._computed = [places.get(node, -1) for node in self._computed]
        self._proposed = grown.tree(kept, drawing)
        return self._proposed

    def observe(self, context: Context, turn: Round) -> None:
        """Let the shape follow the acceptance of its own trees, not those of another source."""
        if turn.tree is self._proposed:
            self._steering.observe(turn)

    @property
    def plans(self) -> dict[str, Template]:
        """Of a planned shape, the trees that are drafted now, by the way of drawing."""
        return self._steering.plans if isinstance(self._steering, Planning) else {}

    @property
    def shares(self) -> dict[str, list[float]]:
        """Of a planned shape, how often the child of each rank was accepted, likewise."""
        return self._steering.shares if isinstance(self._steering, Planning) else {}

    def reset(self) -> None:
        """Forget earlier texts; what a pair is worth to a planned shape stays known."""
        super().reset()
        self._steering.reset()
        self._computed = []

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Prefill the prompt; a new text begins with the shape as given."""
        self._session.abandon()
        if not resume:
            self._steering.reset()
        super().start(context, resume=resume)

    def _settle(self, context: Context, tree: TokenTree) -> None:
        """Hold the nodes of the tree that the text went through, free all others."""
        tokens, parents = tree.lists()
        children: dict[tuple[int, int], int] = {}
        for place, node in enumerate(self._computed):
            if node > 0:
                children.setdefault((parents[node], tokens[node]), place)
        kept: list[int] = []
        node = 0
        for token in context.tokens[self._agreed :]:
            if (node, token) not in children:
                break
            kept.append(children[node, token])
            node = self._computed[kept[-1]]
        if self._computed:
            self._session.keep(kept, [tokens[self._computed[place]] for place in kept])
        self._computed = []


@dataclass(slots=True)
class _Growth:
    """A tree under way: node 0 is the root, nodes of one level stand together."""

    root: int
    device: torch.device
    parents: list[int] = field(default_factory=lambda: [-1])
    scores: list[float] = field(default_factory=lambda: [0.0])  # log-probability of the path
    paths: list[list[int]] = field(default_factory=lambda: [[]])
    places: list[int] = field(default_factory=lambda: [0])  # in the shape's template
    laws: dict[int, Tensor] = field(default_factory=dict)

    def add(
        self, level: list[int], logits: Tensor, shape: Shape, drawing: Drawing, most: int | None
    ) -> list[int]:
        """Add the children of a level, given ``logits [n, V]``; return them."""
        drawn = drawing.children(logits, [self.paths[node] for node in level], shape.widest)
        tokens, scores, best = drawn.lists()
        first = len(self.parents)
        for row, node in enumerate(level):
            if drawn.log_q is not None:
                self.laws[node] = drawn.log_q[row]
            place = self.places[node]
            for rank in range(min(shape.children(best[row], place), len(scores[row]))):
                if most is not None and len(self.parents) > most:
                    break
                if not scores[row][rank] > -math.inf:  # a filter took it out, or all of them: NaN
                    continue
                self.parents.append(node)
                self.scores.append(self.scores[node] + scores[row][rank])
                self.paths.append([*self.paths[node], tokens[row][rank]])
                self.places.append(shape.place(place, rank))
        return list(range(first, len(self.parents)))

    def tokens(self, nodes: Sequence[int]) -> Tensor:
        """Return the tokens of nodes, ``[n]``."""
        return torch.tensor([self.paths[node][-1] for node in nodes]).to(self.device)

    def promising(self, level: list[int], count: int) -> list[int]:
        """Return the nodes of a level whose children can be among the ``count`` best.

        A child never scores more than its parent, and at a tie the node that came first wins.
        """
        if len(self.scores) - 1 < count:
            return level
        least = sorted(self.scores[1:], reverse=True)[count - 1]
        return [node for node in level if self.scores[node] > least]

    def best(self, count: int) -> list[int]:
        """Return the root and the ``count`` nodes of the best paths, in the tree's order.

        A path is never better than its beginning; at a tie the node that came first wins, which
        its children never did: no child loses its parent.
        """
        order = sorted(range(1, len(self.parents)), key=lambda node: (-self.scores[node], node))
        return [0, *sorted(order[:count])]

    def tree(self, kept: list[int], drawing: Drawing) -> TokenTree:
        """Return the tree of these nodes."""
        place = {node: number for number, node in enumerate(kept)}
        log_q = None
        if self.laws:
            some = next(iter(self.laws.values()))
            log_q = some.new_zeros(len(kept), len(some))
            for node, law in self.laws.items():
                log_q[place[node]] = law
        return TokenTree.of(
            [self.root, *(self.paths[node][-1] for node in kept[1:])],
            [-1, *(place[self.parents[node]] for node in kept[1:])],
            draw=drawing.kind,
            log_q=log_q,
            scores=[self.scores[node] for node in kept],
            device=self.device,
        )
