"""Suffix decoding (arXiv 2411.04975): what followed the end of the text earlier, as a tree."""

from __future__ import annotations

import heapq
import math
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..drawing import Drawing
from ..errors import InvalidArgument
from ..lengths.fixed import MAX_LENGTH
from ..models import LanguageModel
from ..types import Budget, Context, Round, TokenTree
from .base import Drafter
from .store_file import check_vocabulary
from .suffix_automaton import SuffixAutomaton
from .suffix_store import SuffixStore
from .suffix_window import SuffixWindow
from .texts import Texts


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
    One with ``keep`` is for one tenant, and so is its file: what it wrote for one text it proposes
    in the next.

    Args:
        factor: nodes drafted for each token of the match (α, "max_spec = α · match length").
        longest: tokens of the longest match.
        least: draft nothing where fewer tokens than this are expected to be accepted.
        keep: learn each finished output and draft from it in later texts. A path is a file to
            keep them in: what is there is loaded, and it is saved again with each finished output.
        capacity: with ``keep``, how many tokens of outputs to keep.
        shared: texts that everybody who is handed them may be proposed, or the path of a saved
            store of them; read, never written.
        window: how many tokens of a text itself to match against, the latest ones.

    Attributes:
        store: the own outputs.
        file: where they are kept, or None.
        shared: the shared store, or None.

    Raises:
        InvalidArgument: factor not above 0, longest below 1, capacity below 4, window below
            ``4 · longest``, or a file that is damaged, foreign, of another capacity or longest
            match, or cannot be written.
    """

    branches = True
    budget = Budget(MAX_LENGTH, MAX_LENGTH)  # the match decides

    def __init__(
        self,
        factor: float = 4.0,
        *,
        longest: int = 32,
        least: float = 0.0,
        keep: bool | str | os.PathLike[str] = False,
        capacity: int = 65_536,
        shared: SuffixStore | str | os.PathLike[str] | None = None,
        window: int = 65_536,
    ) -> None:
        if not 0 < factor < math.inf:
            raise InvalidArgument(f"{factor} nodes a token of the match: give a number above 0")
        self.factor = factor
        self.longest = longest
        self.least = least
        self.store = SuffixStore(capacity, longest=longest)
        if window < 4 * longest:
            raise InvalidArgument(
                f"a window of {window} tokens for matches of up to {longest}: give {4 * longest} "
                "or more"
            )
        self.window = window
        self.keep = keep is not False
        self.file = None if isinstance(keep, bool) else Path(keep)
        if self.file is not None:
            self._open(self.file)
        if isinstance(shared, str | os.PathLike):
            shared = SuffixStore.load(shared)
        self.shared = shared
        self._texts = Texts(lambda: SuffixWindow(window, longest))
        self._vocabulary: int | None = None

    @property
    def store_bytes(self) -> int:
        """Bytes held for the texts under way, the own outputs and the shared store."""
        stores = self.store.nbytes + (self.shared.nbytes if self.shared is not None else 0)
        return stores + sum(text.nbytes for text in self._texts)

    def attach(self, target: LanguageModel) -> None:
        """Compare the stores' tokens with the target's.

        Raises:
            VocabularyMismatch: a store holds a token that the target does not know.
        """
        self._vocabulary = target.vocabulary
        self._check_tokens()

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Read the prompt; a text that goes on is read from where it stopped."""
        self._check_tokens()
        self._texts.start(context, resume=resume).read(context.tokens)

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Return the best tree of all sources, or the root alone where nothing matches."""
        text, root = self._texts[context], context.tokens[-1]
        text.read(context.tokens)
        if min(budget.nodes, budget.depth) < 1:
            return TokenTree.chain(root)
        best = self._grow(text.young, *text.young.repeated(), budget)
        ending = context.tokens[-self.longest :]
        others = [text.old, *self.store.generations]
        others += self.shared.generations if self.shared is not None else ()
        for source in others:
            if source is not None:
                grown = self._grow(source, *source.match(ending), budget)
                best = grown if grown.total > best.total else best
        if best.total < self.least:
            return TokenTree.chain(root)
        return TokenTree.of([root, *best.tokens], best.parents, scores=best.scores)

    def observe(self, context: Context, turn: Round) -> None:
        """Learn the output when it is finished, and save what is kept in a file.

        Raises:
            InvalidArgument: the file cannot be written.
        """
        if self.keep and turn.end is not None:
            self.store.add(context.output)
            if self.file is not None:
                self.store.save(self.file)

    def reset(self) -> None:
        """Forget all texts and outputs; what a file keeps, or is shared, stays."""
        self._texts.clear()
        if self.file is None:
            self.store.clear()

    def _grow(self, source: SuffixAutomaton, state: int, length: int, budget: Budget) -> _Growth:
        """Return the tree below a match of ``length`` tokens."""
        nodes = int(min(budget.nodes, self.factor * length))
        grown = _Growth(source)
        if nodes > 0:
            grown.offer(0, state, length, 1.0)
        while grown.offered and len(grown.tokens) < nodes:
            grown.take(budget.depth)
        return grown

    def _open(self, path: Path) -> None:
        """Load the own outputs, or save that there are none: a bad path is told at once."""
        if not path.exists():
            self.store.save(path)
            return
        found, asked = SuffixStore.load(path), self.store
        if (found.capacity, found.longest) != (asked.capacity, asked.longest):
            raise InvalidArgument(
                f"{path}: a store of capacity {found.capacity} and matches of up to "
                f"{found.longest} tokens, not {asked.capacity} and {asked.longest}: ask for the "
                "same, or give another file"
            )
        self.store = found

    def _check_tokens(self) -> None:
        check_vocabulary("store of outputs", self.store.largest, self._vocabulary)
        if self.shared is not None:
            check_vocabulary("shared store", self.shared.largest, self._vocabulary)


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
