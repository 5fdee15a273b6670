"""Token recycling: what the target thought of, used or not, drafts next time (arXiv 2408.08696)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from ..drawing import Drawing
from ..errors import InvalidArgument
from ..lengths.fixed import MAX_LENGTH
from ..models import LanguageModel
from ..types import Budget, Context, Round, TokenTree
from .base import Drafter
from .sequoia import Template
from .texts import Texts

RATES = (0.44, 0.11, 0.05, 0.027, 0.027, 0.016, 0.014, 0.014)
"""How often the child of each rank is the one that stands.

Measured with the embedded target: ten prompts each of HumanEval and PG-19, 64 new tokens, greedy
and at temperature 0.8, with and without ``keep``, all eight weighted equally.
"""


class Successors:
    """The target's latest best tokens after each token: a matrix ``[V, k]`` on the host.

    Best first. Two bytes an entry where the vocabulary has at most 32,768 tokens, else four.

    Args:
        vocabulary: V.
        k: how many tokens to keep after each.
    """

    def __init__(self, vocabulary: int, k: int) -> None:
        # ids go up to V - 1, and -1 stands for "not known"
        dtype = torch.int16 if vocabulary - 1 <= torch.iinfo(torch.int16).max else torch.int32
        self._best = torch.full((vocabulary, k), -1, dtype=dtype)

    def __len__(self) -> int:
        return self._best.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the matrix."""
        return self._best.nbytes

    @property
    def dtype(self) -> torch.dtype:
        """The type of an entry."""
        return self._best.dtype

    def learn(self, tokens: Sequence[int], best: Tensor) -> None:
        """Replace what follows each of ``tokens`` by its row of ``best``.

        Args:
            tokens: n of them; where one stands several times, its last row counts.
            best: ``[n, k]`` or narrower, distinct ids in each row.
        """
        # an indexed write with the same index twice may keep either
        rows = {token: row for row, token in enumerate(tokens)}
        known = best.to("cpu", self.dtype)[list(rows.values())]
        self._best[list(rows), : known.shape[1]] = known

    def after(self, tokens: Sequence[int]) -> list[list[int]]:
        """Return what is known to follow each of ``tokens``, best first."""
        rows: list[list[int]] = self._best[list(tokens)].tolist()
        return [[token for token in row if token >= 0] for row in rows]

    def clear(self) -> None:
        """Forget everything."""
        self._best.fill_(-1)


class RecyclingDrafter(Drafter):
    """Drafts a tree of the tokens the target held for best the last time it read the same token.

    In every round the target computes its law at all nodes of the tree, on the accepted path and
    off it. The best tokens of each are kept, one row for each token of the vocabulary, and the
    next tree is read off these rows level by level: its shape is fixed, a child's rank in the row
    of its parent says whether it belongs to the tree and how much grows below it. A round reads as
    many rows however long the text is. There is no model and nothing to train; a token that was
    not read yet has no children.

    Without ``keep`` every text has a matrix of its own and one drafter may serve everybody. One
    with ``keep`` is for one tenant: what the target thought of in one text it proposes in the next.

    Args:
        rates: how often the child of each rank is taken to stand, best first; there are as many
            ranks (k) as rates. They decide the shape, see :func:`plan`.
        everywhere: learn from all nodes of the tree, as published; otherwise from the root and
            the accepted ones.
        keep: keep one matrix for all texts; otherwise every text starts with nothing.

    Attributes:
        successors: what is kept; without rows before a target is met, and without ``keep``.

    Raises:
        InvalidArgument: no rates, rates out of (0, 1], or rising.
    """

    branches = True
    budget = Budget(MAX_LENGTH, MAX_LENGTH)  # the rates decide how deep

    def __init__(
        self, rates: Sequence[float] = RATES, *, everywhere: bool = True, keep: bool = False
    ) -> None:
        falling = all(one >= two for one, two in pairwise(rates))
        if not rates or not falling or not all(0 < rate <= 1 for rate in rates):
            raise InvalidArgument(
                f"rates {tuple(rates)}: give at least one, each over 0 and at most 1, none higher "
                "than the one before"
            )
        self.rates = tuple(rates)
        self.keep = keep
        self.successors = Successors(0, len(rates))
        self._vocabulary = 0
        self._texts = Texts(lambda: _Text(Successors(self._vocabulary, len(self.rates))))
        self._everywhere = everywhere
        self._key = f"{'topk-all' if everywhere else 'topk'}:{len(rates)}"
        self.wants = frozenset({self._key})

    @property
    def store_bytes(self) -> int:
        """Bytes of what is kept and of the matrices of the texts under way."""
        return self.successors.nbytes + sum(text.successors.nbytes for text in self._texts)

    def attach(self, target: LanguageModel) -> None:
        """Make room for the vocabulary of the target; of another one, nothing known is kept."""
        if target.vocabulary != self._vocabulary:
            self._vocabulary = target.vocabulary
            self._texts.clear()
            self.successors = Successors(self._vocabulary if self.keep else 0, len(self.rates))

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Begin with nothing, unless told to ``keep`` it or where a text goes on."""
        if not self.keep:
            self._texts.start(context, resume=resume)

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Return the part of the planned tree that is known."""
        template = plan(self.rates, budget.nodes, budget.depth)
        successors = self.successors if self.keep else self._texts[context].successors
        tokens, parents = [context.tokens[-1]], [-1]
        level = [(0, 0)]  # places in the template, and the nodes that stand there
        while growing := [(place, node) for place, node in level if template[place]]:
            rows = successors.after([tokens[node] for _, node in growing])
            level = []
            for (place, node), row in zip(growing, rows, strict=True):
                for below, token in zip(template[place], row, strict=False):
                    level.append((below, len(tokens)))
                    tokens.append(token)
                    parents.append(node)
        return TokenTree.of(tokens, parents)

    def observe(self, context: Context, turn: Round) -> None:
        """Learn what the target held for best; of equal tokens those on the accepted path count."""
        tokens, _ = turn.tree.lists()
        best, kept = turn.extras[self._key], [0, *turn.verdict.path]
        nodes = kept
        if self._everywhere:
            off_path = set(range(len(tokens))).difference(kept)
            nodes = [*sorted(off_path), *kept]
            best = best.cpu()[nodes]
        successors = self.successors
        if not self.keep:
            text = self._texts[context]
            successors, text.learnt = text.successors, len(context)
        successors.learn([tokens[node] for node in nodes], best)

    def reset(self) -> None:
        """Forget everything."""
        self._texts.clear()
        self.successors.clear()


@dataclass(slots=True)
class _Text:
    """What the target thought of in one text, and how many of its tokens that depends on."""

    successors: Successors
    learnt: int = 0

    def __len__(self) -> int:
        return self.learnt


@lru_cache(maxsize=256)
def plan(rates: tuple[float, ...], nodes: int, depth: int) -> Template:
    """Return the tree with the most accepted nodes, if each rank stood as often everywhere.

    A node is accepted as often as the product of the rates on the way to it says. No node has a
    higher product than its parent or than the sibling before it, so the ``nodes`` highest are a
    tree; of equal ones, those nearer to the root, then those further left.

    Args:
        rates: how often the child of each rank stands, none higher than the one before.
        nodes: draft tokens at most.
        depth: levels at most.

    Returns:
        The children of each node, numbered level by level; node 0 is the root.
    """
    heap: list[tuple[float, int, tuple[int, ...]]] = []

    def offer(way: tuple[int, ...]) -> None:
        if len(way) <= depth and way[-1] < len(rates):
            # multiplied in one order, so that equal products are equal to the last bit
            heappush(heap, (-prod(rates[rank] for rank in sorted(way)), len(way), way))

    kept: list[tuple[int, ...]] = [()]  # the ranks on the way from the root
    offer((0,))
    while heap and len(kept) <= nodes:
        *_, way = heappop(heap)
        kept.append(way)
        offer((*way[:-1], way[-1] + 1))
        offer((*way, 0))
    kept.sort(key=lambda way: (len(way), way))
    places = {way: place for place, way in enumerate(kept)}
    below: list[list[int]] = [[] for _ in kept]
    for way in kept[1:]:
        below[places[way[:-1]]].append(places[way])
    return tuple(tuple(children) for children in below)
