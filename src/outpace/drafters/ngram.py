"""n-gram assisted speculative decoding (NASD): counts of what followed draft what follows.

With one filler it is ANPD (arXiv 2404.08698); more fillers and a store that outlives the prompt
extend it.
"""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ..drawing import Drawing
from ..errors import InvalidArgument
from ..models import LanguageModel
from ..types import Budget, Context, Round, TokenTree
from .base import Drafter
from .store_file import LARGEST, StoreFile, check_vocabulary
from .texts import Texts

Gram = tuple[int, ...]
MOST = 64
"""Of each context, so many following tokens are counted."""

_FILE = StoreFile("ngram", 1, "n-gram store", ("counts",))
_INT = sys.getsizeof(LARGEST)


class NgramStore:
    """Counts of the token after each n-gram, bounded: the contexts unused longest go first.

    After a context :data:`MOST` different tokens are counted; a further one takes the place of the
    one counted least, of equals the earliest. So a draft token costs the same whatever was learnt.

    Args:
        order: n; a context has up to n - 1 tokens.
        multilevel: keep all context lengths 1 … n - 1 and look the longest up first; otherwise
            only n - 1.
        capacity: how many counts to keep, over all contexts and lengths.

    Attributes:
        largest: the largest token ever counted, -1 before the first.
        work: elementary steps so far (contexts looked up, counts written or compared), so that cost
            can be checked without a clock.
    """

    def __init__(self, order: int, *, multilevel: bool, capacity: int) -> None:
        self.order = order
        self.sizes: Sequence[int] = range(order - 1, 0, -1) if multilevel else (order - 1,)
        self.capacity = capacity
        self.work = 0
        self.largest = -1
        self._counts: OrderedDict[Gram, dict[int, int]] = OrderedDict()
        self._size = 0
        self._table_bytes = 0  # of the dictionaries of counts

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        """Bytes held, counted as it grows: each context as one of n - 1 tokens of its own."""
        gram = sys.getsizeof((0,) * (self.order - 1)) + (self.order - 1) * _INT
        keys = sys.getsizeof(self._counts) + gram * len(self._counts)
        return keys + self._table_bytes + 2 * _INT * self._size

    def learn(self, before: Sequence[int], tokens: Sequence[int]) -> None:
        """Count each of ``tokens`` once after every context that ends ``before``."""
        for size in self.sizes:
            if size > len(before):
                continue
            gram = tuple(before[len(before) - size :])
            counts = self._counts.get(gram)
            if counts is None:
                counts = self._counts[gram] = {}
            else:
                self._drop(counts)
                self._counts.move_to_end(gram)
            for token in tokens:
                if len(counts) == MOST and token not in counts:
                    del counts[min(counts, key=counts.__getitem__)]
                    self.work += MOST
                counts[token] = counts.get(token, 0) + 1
            self._add(counts)
            self.work += 1 + len(tokens)
        self.largest = max(self.largest, max(tokens, default=-1))
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
            self.work += 1
            if counts:
                self._counts.move_to_end(gram)
                self.work += len(counts)
                return max(counts, key=counts.__getitem__)
        return None

    def clear(self) -> None:
        """Forget everything."""
        self._counts = OrderedDict()
        self._size = self._table_bytes = 0
        self.largest = -1

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the counts as safetensors: rows of (context, padded with -1; token; count).

        A file that is there is replaced as a whole.

        Raises:
            InvalidArgument: the file cannot be written.
        """
        rows = [
            [*gram, *[-1] * (self.order - 1 - len(gram)), token, count]
            for gram, counts in self._counts.items()
            for token, count in counts.items()
        ]
        table = torch.tensor(rows, dtype=torch.int64).reshape(-1, self.order + 1)
        _FILE.save(path, {"counts": table}, {"order": self.order})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace the counts by those of a file, the contexts of this store's sizes alone.

        Raises:
            InvalidArgument: the file is missing, no n-gram store, damaged, or of another order;
                the store is left as it was.
        """
        parts, numbers = _FILE.load(path)
        order, table = numbers.get("order", -1), parts["counts"]
        if order < 2 or not _are_counts(table, order):
            raise _FILE.damaged(path)
        if order != self.order:
            raise InvalidArgument(
                f"{path} holds n-grams of order {order}, this store order {self.order}: "
                "make the drafter with the same order"
            )
        found: OrderedDict[Gram, dict[int, int]] = OrderedDict()
        for *padded, token, count in table.tolist():
            gram = tuple(t for t in padded if t >= 0)
            counts = found.setdefault(gram, {})
            if token in counts or len(counts) == MOST:
                raise _FILE.damaged(path)
            counts[token] = count
        self.clear()
        for gram, counts in found.items():
            if len(gram) in self.sizes:
                self._counts[gram] = counts
                self._add(counts)
                self.largest = max(self.largest, *counts)
        self._shrink()

    def _add(self, counts: dict[int, int]) -> None:
        self._size += len(counts)
        self._table_bytes += sys.getsizeof(counts)

    def _drop(self, counts: dict[int, int]) -> None:
        self._size -= len(counts)
        self._table_bytes -= sys.getsizeof(counts)

    def _shrink(self) -> None:
        while self._size > self.capacity:
            self._drop(self._counts.popitem(last=False)[1])


def _are_counts(table: Tensor, order: int) -> bool:
    """Whether a table has rows as they are saved."""
    if table.dtype != torch.int64 or table.dim() != 2 or table.shape[1] != order + 1:
        return False
    grams, tokens, counts = table[:, :-2], table[:, -2], table[:, -1]
    missing = grams == -1
    return not bool(
        (table[:, :-1] > LARGEST).any()
        or (grams < -1).any()
        or missing[:, 0].any()
        or (missing[:, :-1] & ~missing[:, 1:]).any()  # the padding is at the end
        or (tokens < 0).any()
        or (counts < 1).any()
    )


class _Text:
    """What was counted of one text, and where."""

    def __init__(self, store: NgramStore) -> None:
        self.store = store
        self.counted = 1  # the first token follows nothing

    def __len__(self) -> int:
        return self.counted

    def read(self, tokens: Sequence[int], end: int) -> None:
        """Catch up with the text, given whole, up to a place."""
        for place in range(self.counted, end):
            self.learn(tokens, place, [tokens[place]])
        self.counted = max(self.counted, end)

    def learn(self, tokens: Sequence[int], place: int, there: Sequence[int]) -> None:
        """Count what stands at a place, or could."""
        self.store.learn(tokens[max(0, place - self.store.order) : place], there)


class NgramDrafter(Drafter):
    """Drafts the most counted token after the longest known context, and stops at an unknown one.

    Learnt is every token of the prompt and of the output and, at each position of the output, the
    target's best tokens there ("fillers"): what it might have written.

    Without ``keep`` every text has a store of its own and one drafter may serve everybody. One with
    ``keep`` is for one tenant: what it learnt from one text it proposes in the next.

    Args:
        order: n; contexts have up to n - 1 tokens.
        multilevel: back off from longer to shorter contexts; otherwise n - 1 tokens only.
        fillers: how many of the target's best tokens to learn at each position; 0 is none, 1 is
            the published ANPD under greedy decoding.
        keep: keep one store for all texts.
        capacity: how many counts to keep, in each store.

    Attributes:
        store: what is kept; empty without ``keep``.

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
        self._fresh = partial(NgramStore, order, multilevel=multilevel, capacity=capacity)
        self.store = self._fresh()
        self.keep = keep
        self._texts = Texts(self._text)
        self._vocabulary: int | None = None
        self._filler_key = f"topk:{fillers}"
        self.wants = frozenset({self._filler_key}) if fillers else frozenset()

    @property
    def store_bytes(self) -> int:
        """Bytes of what is kept and of the stores of the texts under way."""
        own = sum(text.store.nbytes for text in self._texts if text.store is not self.store)
        return self.store.nbytes + own

    def attach(self, target: LanguageModel) -> None:
        """Compare the tokens of what is kept with the target's.

        Raises:
            VocabularyMismatch: the store counts a token that the target does not know.
        """
        self._vocabulary = target.vocabulary
        self._check_tokens()

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Learn the prompt; of a text that goes on, what is new."""
        self._check_tokens()
        self._texts.start(context, resume=resume).read(context.tokens, len(context))

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Return a chain of at most ``budget.depth`` known continuations."""
        store = self._texts[context].store
        before = context.tokens[-store.order :]
        drafted: list[int] = []
        while len(drafted) < min(budget.depth, budget.nodes):
            token = store.next(before)
            if token is None:
                break
            drafted.append(token)
            before.append(token)
        return TokenTree.chain(context.tokens[-1], drafted)

    def observe(self, context: Context, turn: Round) -> None:
        """Learn the emitted tokens and the fillers beside them."""
        text = self._texts[context]
        rows = turn.extras[self._filler_key].tolist() if self.wants else []
        start = len(context) - len(turn.tokens)
        for offset in range(len(turn.tokens)):
            text.read(context.tokens, start + offset + 1)
            if offset < len(rows):
                text.learn(context.tokens, start + offset, rows[offset])

    def reset(self) -> None:
        """Forget everything."""
        self._texts.clear()
        self.store.clear()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what is kept to a file (safetensors).

        Raises:
            InvalidArgument: nothing is kept, or the file cannot be written.
        """
        if not self.keep:
            raise InvalidArgument(f"nothing is kept to save in {path}: make the drafter with keep")
        self.store.save(path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace what is kept by a saved store, and keep it for all texts.

        Raises:
            InvalidArgument: the file is missing, no n-gram store, damaged, or of another order;
                nothing is changed then.
            VocabularyMismatch: the store counts a token that the target does not know.
        """
        found = self._fresh()
        found.load(path)
        check_vocabulary(_FILE.what, found.largest, self._vocabulary)
        self._texts.clear()
        self.store, self.keep = found, True

    def _text(self) -> _Text:
        return _Text(self.store if self.keep else self._fresh())

    def _check_tokens(self) -> None:
        check_vocabulary(_FILE.what, self.store.largest, self._vocabulary)
