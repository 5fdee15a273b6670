"""n-gram assisted speculative decoding (NASD): counts of what followed draft what follows.

With one filler it is ANPD (arXiv 2404.08698); more fillers and a store that outlives the prompt
extend it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from weakref import WeakKeyDictionary

import torch

from ..drawing import Drawing
from ..errors import InvalidArgument, PromptError
from ..types import Budget, Context, Round, TokenTree
from .base import Drafter

Gram = tuple[int, ...]


class NgramStore:
    """Counts of the token after each n-gram, bounded: the contexts unused longest go first.

    Args:
        order: n; a context has up to n - 1 tokens.
        multilevel: keep all context lengths 1 … n - 1 and look the longest up first; otherwise
            only n - 1.
        capacity: how many counts to keep, over all contexts and lengths.
    """

    def __init__(self, order: int, *, multilevel: bool, capacity: int) -> None:
        self.order = order
        self.sizes: Sequence[int] = range(order - 1, 0, -1) if multilevel else (order - 1,)
        self.capacity = capacity
        self._counts: OrderedDict[Gram, dict[int, int]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def learn(self, before: Sequence[int], tokens: Sequence[int]) -> None:
        """Count each of ``tokens`` once after every context that ends ``before``."""
        for size in self.sizes:
            if size > len(before):
                continue
            gram = tuple(before[len(before) - size :])
            counts = self._counts.setdefault(gram, {})
            self._counts.move_to_end(gram)
            self._size -= len(counts)
            for token in tokens:
                counts[token] = counts.get(token, 0) + 1
            self._size += len(counts)
        self._shrink()

    def next(self, before: Sequence[int]) -> int | None:
        """Return the most counted token after the longest known context, the earliest of equals.

        None where no context is known.
        """
        for size in self.sizes:
            if size > len(before):
                continue
            gram = tuple(before[len(before) - size :])
            counts = self._counts.get(gram)
            if counts:
                self._counts.move_to_end(gram)
                return max(counts, key=counts.__getitem__)
        return None

    def clear(self) -> None:
        """Forget everything."""
        self._counts.clear()
        self._size = 0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the counts as safetensors: rows of (context, padded with -1; token; count)."""
        from safetensors.torch import save_file

        rows = [
            [*gram, *[-1] * (self.order - 1 - len(gram)), token, count]
            for gram, counts in self._counts.items()
            for token, count in counts.items()
        ]
        table = torch.tensor(rows, dtype=torch.int64).reshape(-1, self.order + 1)
        save_file(
            {"counts": table}, os.fspath(path), {"outpace": "ngram", "order": str(self.order)}
        )

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace the counts by those of a file, the contexts of this store's sizes alone.

        Raises:
            PromptError: the file is missing, not an n-gram store, or of another order.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                order = int((file.metadata() or {}).get("order", -1))
                table: torch.Tensor = file.get_tensor("counts")
        except (OSError, SafetensorError, ValueError) as error:
            raise PromptError(f"{path}: not a saved n-gram store: give a file of save()") from error
        if order != self.order:
            raise PromptError(
                f"{path} holds n-grams of order {order}, this store order {self.order}: "
                "make the drafter with the same order"
            )
        self.clear()
        for *gram, token, count in table.tolist():
            key = tuple(t for t in gram if t >= 0)
            if len(key) in self.sizes:
                self._counts.setdefault(key, {})[token] = count
                self._size += 1
        self._shrink()

    def _shrink(self) -> None:
        while self._size > self.capacity:
            _, counts = self._counts.popitem(last=False)
            self._size -= len(counts)


class NgramDrafter(Drafter):
    """Drafts the most counted token after the longest known context, and stops at an unknown one.

    The store learns every token of the prompt and of the output and, at each position of the
    output, the target's best tokens there ("fillers"): what it might have written.

    Args:
        order: n; contexts have up to n - 1 tokens.
        multilevel: back off from longer to shorter contexts; otherwise n - 1 tokens only.
        fillers: how many of the target's best tokens to learn at each position; 0 is none, 1 is
            the published ANPD under greedy decoding.
        keep: keep the store between prompts; otherwise every text starts with an empty one.
        capacity: how many counts to keep.

    Raises:
        InvalidArgument: order below 2, fillers below 0 or capacity below 1.
    """

    def __init__(
        self,
        order: int = 3,
        *,
        multilevel: bool = True,
        fillers: int = 3,
        keep: bool = False,
        capacity: int = 200_000,
    ) -> None:
        if order < 2:
            raise InvalidArgument(f"n-gram order {order}: give 2 or more")
        if fillers < 0:
            raise InvalidArgument(f"{fillers} fillers: give 0 (none) or more")
        if capacity < 1:
            raise InvalidArgument(f"room for {capacity} counts: give 1 or more")
        self.store = NgramStore(order, multilevel=multilevel, capacity=capacity)
        self.keep = keep
        self._learnt: list[int] = []  # the text the store learnt last; it grows with its context
        self._known: WeakKeyDictionary[Context, int] = WeakKeyDictionary()
        self._filler_key = f"topk:{fillers}"
        self.wants = frozenset({self._filler_key}) if fillers else frozenset()

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Learn the prompt; without ``keep``, forget earlier texts first."""
        if not (self.keep or resume):
            self.reset()
        tokens, learnt = context.tokens, 1
        if context in self._known:  # streams take turns
            learnt = self._known[context]
        elif resume:
            pairs = zip(tokens, self._learnt, strict=False)
            learnt = max(1, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))
        self._learnt = tokens
        for place in range(min(learnt, len(tokens)), len(tokens)):
            self.store.learn(tokens[max(0, place - self.store.order) : place], [tokens[place]])
        self._known[context] = len(tokens)

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Return a chain of at most ``budget.depth`` known continuations."""
        before = context.tokens[-self.store.order :]
        drafted: list[int] = []
        while len(drafted) < min(budget.depth, budget.nodes):
            token = self.store.next(before)
            if token is None:
                break
            drafted.append(token)
            before.append(token)
        return TokenTree.chain(context.tokens[-1], drafted)

    def observe(self, context: Context, turn: Round) -> None:
        """Learn the emitted tokens and the fillers beside them."""
        rows = turn.extras[self._filler_key].tolist() if self.wants else []
        start = len(context) - len(turn.tokens)
        for offset, token in enumerate(turn.tokens):
            place = start + offset
            before = context.tokens[max(0, place - self.store.order) : place]
            self.store.learn(before, [token])
            if offset < len(rows):
                self.store.learn(before, rows[offset])
        self._known[context] = len(context)

    def reset(self) -> None:
        """Forget everything."""
        self._forget_texts()
        self.store.clear()

    def _forget_texts(self) -> None:
        self._learnt = []
        self._known.clear()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the store to a file (safetensors)."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.store.save(path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace the store by a saved one and keep it between prompts.

        Raises:
            PromptError: the file cannot be read or has another order.
        """
        self._forget_texts()
        self.store.load(path)
        self.keep = True
