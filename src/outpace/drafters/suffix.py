"""Suffix decoding (arXiv 2411.04975): what followed the end of the text earlier, as a tree."""

from __future__ import annotations

import heapq
import math
import sys
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from ..drawing import Drawing
from ..errors import InvalidArgument, VocabularyMismatch
from ..lengths.fixed import MAX_LENGTH
from ..models import LanguageModel
from ..types import Budget, Context, Round, TokenTree
from .base import Drafter
from .suffix_automaton import SuffixAutomaton
from .suffix_store import SuffixStore


class SuffixDrafter(Drafter):
    """Match the longest end of the text that was read before; draft what followed, by frequency.

    Every source (the text itself, the drafter's own past outputs, a shared store) grows a tree
    from its longest match: a node's estimated probability is its parent's times the share of the
    parent's occurrences that it follows, and the most probable node is added until there are
    ``factor`` nodes for each token of the match. The tree of the largest sum of probabilities is
    drafted. A path that comes to the end of the text goes on from what matches it there.

    Ties: of equally probable nodes the one counted more often, then the smaller token, then the
    one whose parent was added first; of trees with equal sums that of the text itself, then the
    own outputs, then the shared store, the younger generation first.

    Without ``keep`` and ``shared`` nothing outlives a text, so one drafter may serve everybody.
    One with ``keep`` is for one tenant: what it wrote for one text it proposes in the next.

    Args:
        factor: nodes drafted for each token of the match (α, "max_spec = α · match length").
        longest: tokens of the longest match.
        least: draft nothing where fewer tokens than this are expected to be accepted.
        keep: learn each finished output and draft from it in later texts.
        capacity: with ``keep``, how many tokens of outputs to keep.
        shared: texts that everybody who is handed them may be proposed; read, never written.

    Attributes:
        store: the own outputs.
        shared: the shared store, or None.

    Raises:
        InvalidArgument: factor not above 0, longest below 1, capacity below 4.
    """

    branches = True
    budget = Budget(MAX_LENGTH, MAX_LENGTH)  # the match decides

    def __init__(
        self,
        factor: float = 4.0,
        *,
        longest: int = 32,
        least: float = 0.0,
        keep: bool = False,
        capacity: int = 65_536,
        shared: SuffixStore | None = None,
    ) -> None:
        if not 0 < factor < math.inf:
            raise InvalidArgument(f"{factor} nodes a token of the match: give a number above 0")
        self.factor = factor
        self.longest = longest
        self.least = least
        self.keep = keep
        self.store = SuffixStore(capacity, longest=longest)
        self.shared = shared
        self._texts: WeakKeyDictionary[Context, SuffixAutomaton] = WeakKeyDictionary()
        self._vocabulary: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held for texts under way and for the own outputs; a shared store counts itself."""
        return self.store.nbytes + sum(text.nbytes for text in self._texts.values())

    def attach(self, target: LanguageModel) -> None:
        """Compare the shared store's tokens with the target's.

        Raises:
            VocabularyMismatch: the store holds a token that the target does not know.
        """
        self._vocabulary = target.vocabulary
        self._check_tokens()

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Read the prompt; a text that goes on is read from where it stopped."""
        self._check_tokens()
        if context not in self._texts and resume:
            self._take_over(context)
        self._read(context)

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Return the best tree of all sources, or the root alone where nothing matches."""
        text, root = self._read(context), context.tokens[-1]
        if min(budget.nodes, budget.depth) < 1:
            return TokenTree.chain(root)
        best = self._grow(text, *text.repeated(), budget)
        ending = context.tokens[-self.longest :]
        for store in (self.store, self.shared):
            for source in store.generations if store is not None else ():
                grown = self._grow(source, *source.match(ending), budget)
                best = grown if grown.total > best.total else best
        if best.total < self.least:
            return TokenTree.chain(root)
        return TokenTree.of([root, *best.tokens], best.parents, scores=best.scores)

    def observe(self, context: Context, turn: Round) -> None:
        """Learn the output when it is finished."""
        if self.keep and turn.end is not None:
            self.store.add(context.output)

    def reset(self) -> None:
        """Forget all texts and outputs; a shared store is not the drafter's to clear."""
        self._texts.clear()
        self.store.clear()

    def _grow(self, source: SuffixAutomaton, state: int, length: int, budget: Budget) -> _Growth:
        """Return the tree below a match of ``length`` tokens."""
        nodes = min(budget.nodes, int(self.factor * length))
        grown = _Growth(source)
        if nodes > 0:
            grown.offer(0, state, length, 1.0)
        while grown.offered and len(grown.tokens) < nodes:
            grown.take(budget.depth)
        return grown

    def _read(self, context: Context) -> SuffixAutomaton:
        """Return the automaton of a text, everything read."""
        text = self._texts.get(context)
        if text is None:
            text = self._texts[context] = SuffixAutomaton(self.longest)
        text.read(context.tokens[len(text) :])
        return text

    def _take_over(self, context: Context) -> None:
        """Go on with the longest text read that this one begins with.

        Its own context gives it up: should it ever be served again, it is read again.
        """
        known = sorted(self._texts.items(), key=lambda item: -len(item[1]))
        for before, text in known:
            if context.tokens[: len(text)] == text.tokens.tolist():
                self._texts[context] = self._texts.pop(before)
                return

    def _check_tokens(self) -> None:
        if self._vocabulary is None or self.shared is None:
            return
        if self.shared.largest >= self._vocabulary:
            raise VocabularyMismatch(
                f"the shared store holds token {self.shared.largest}, the target knows "
                f"{self._vocabulary} tokens: give a store of texts in the target's vocabulary"
            )


@dataclass(slots=True)
class _Growth:
    """A tree under way; node 0 is the root, which is not among the tokens."""

    source: SuffixAutomaton
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=lambda: [-1])
    scores: list[float] = field(default_factory=lambda: [0.0])  # log-probability of the path
    depths: list[int] = field(default_factory=lambda: [0])
    total: float = 0.0
    # (-probability, -count, token, parent, parent's state, its length): the next node is the least
    offered: list[tuple[float, int, int, int, int, int]] = field(default_factory=list)

    def offer(self, node: int, state: int, length: int, probability: float) -> None:
        """Offer the children of a node."""
        state, length, count = self.source.followed(state, length)
        for token in self.source.children(state) if length else ():
            times = self.source.after(state, token)
            entry = (-probability * times / count, -times, token, node, state, length)
            heapq.heappush(self.offered, entry)

    def take(self, depth: int) -> None:
        """Add the best node offered, and offer its children unless it is ``depth`` deep."""
        negated, _, token, parent, state, length = heapq.heappop(self.offered)
        probability = -negated
        self.total += probability
        self.tokens.append(token)
        self.parents.append(parent)
        self.scores.append(math.log(probability or sys.float_info.min))
        self.depths.append(self.depths[parent] + 1)
        if self.depths[-1] < depth:
            below, size = self.source.step(state, length, token)
            self.offer(len(self.tokens), below, size, probability)
