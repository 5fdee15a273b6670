"""Lookahead decoding: Jacobi iteration beside the text finds n-grams that draft (2402.02057)."""

from __future__ import annotations

import random
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..drawing import Drawing
from ..errors import InvalidArgument
from ..lengths.fixed import MAX_LENGTH
from ..types import Budget, Context, Round, TokenTree
from .base import Drafter
from .texts import Texts

_KEY = "topk-all:1"
_FIRST_BYTES, _TAIL_BYTES = 300, 24
"""Of a first token in the pool, and of each n-gram beside its tuple, measured with CPython 3.11."""


class Pool:
    """n-grams by their first token, bounded: of a token the latest, of all tokens those used last.

    Args:
        ngram: tokens of each.
        guesses: how many n-grams to keep for each first token.
        capacity: how many n-grams to keep in all.
    """

    def __init__(self, ngram: int, guesses: int, capacity: int) -> None:
        self.guesses = guesses
        self.capacity = capacity
        self._each = sys.getsizeof((0,) * (ngram - 1)) + _TAIL_BYTES
        self._tails: OrderedDict[int, list[tuple[int, ...]]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def learn(self, gram: Sequence[int]) -> None:
        """Put an n-gram before all others of its first token."""
        first, tail = gram[0], tuple(gram[1:])
        tails = self._tails.setdefault(first, [])
        self._tails.move_to_end(first)
        self._size -= len(tails)
        if tail in tails:
            tails.remove(tail)
        tails.append(tail)
        del tails[: -self.guesses]
        self._size += len(tails)
        while self._size > self.capacity:
            self._size -= len(self._tails.popitem(last=False)[1])

    def after(self, token: int) -> Iterator[tuple[int, ...]]:
        """Yield what may follow a token, the latest first."""
        return reversed(self._tails.get(token, ()))

    @property
    def nbytes(self) -> int:
        """Bytes held, as CPython's sizes of its objects add up to."""
        return _FIRST_BYTES * len(self._tails) + self._each * self._size


@dataclass(slots=True)
class _Text:
    """What is known of one text.

    Attributes:
        rows: the window, the oldest iteration first; the entry of column c in row r is a guess at
            the token c + r after the last one of the text. Row 0 has no column 0: that is the last
            token itself.
        pool: n-grams found so far.
        read: how many tokens of the text it has seen.
        tree: the tree drafted last.
        ends: its nodes that stand at the end of each column of the window; empty where it had no
            room for the window.
    """

    pool: Pool
    rows: list[list[int]] = field(default_factory=list)
    read: int = 0
    tree: TokenTree | None = None
    ends: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.read


class LookaheadDrafter(Drafter):
    """Have the target guess a window of coming tokens in parallel, and draft the n-grams it finds.

    Every forward carries two branches of one token tree. The window branch holds the last n - 1
    iterations of ``window`` guesses: its oldest row is a path below the last token of the text,
    and below each of its nodes hang the later guesses of that column. What the target finds best
    at the end of each column is the next iteration, and each column with its new end is an n-gram
    for the pool. The other branch drafts the n-grams of the pool that begin with the last token.
    Both being one tree, nodes they share are computed once, and a guess of the window that
    proves right is accepted like any draft token.

    The defaults fill a forward of 16 rows, which on a CPU costs little more than one of a single
    row; where the target has computing power to spare, a larger window finds more.

    Args:
        window: columns guessed (W).
        ngram: tokens of an n-gram (N); the window has N - 1 rows.
        guesses: n-grams drafted in a round at most (G).
        text: learn the n-grams of prompt and output too.
        capacity: how many n-grams to keep for a text.

    Raises:
        InvalidArgument: window, guesses or capacity below 1, n-grams of fewer than 2 tokens, or
            more draft tokens than a round may have.
    """

    branches = True
    wants = frozenset({_KEY})

    def __init__(
        self,
        window: int = 3,
        ngram: int = 4,
        guesses: int = 2,
        *,
        text: bool = True,
        capacity: int = 8192,
    ) -> None:
        for what, value, least in (
            ("a window of {} columns", window, 1),
            ("n-grams of {} tokens", ngram, 2),
            ("{} guesses", guesses, 1),
            ("room for {} n-grams", capacity, 1),
        ):
            if value < least:
                raise InvalidArgument(f"{what.format(value)}: give {least} or more")
        self.window = window
        self.ngram = ngram
        self.guesses = guesses
        self.text = text
        self.capacity = capacity
        nodes = (window + guesses) * (ngram - 1) - 1
        if nodes > MAX_LENGTH:
            raise InvalidArgument(
                f"window {window} and {guesses} guesses of {ngram}-grams are {nodes} draft tokens: "
                f"(window + guesses) · (ngram - 1) may be {MAX_LENGTH + 1} at most"
            )
        # the deepest node ends the last column, or an n-gram
        self._own = self.budget = Budget(nodes, max(window + ngram - 3, ngram - 1))
        self._texts = Texts(lambda: _Text(Pool(ngram, guesses, capacity)))

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Fill the window's first row with tokens of the prompt; read the prompt."""
        self._texts.start(context, resume=resume)
        self._text(context)

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Return the window and the n-grams of the pool, as far as the budget goes."""
        text, tree = self._text(context), _Trie(context.tokens[-1])
        text.ends = self._place(text.rows, tree, budget)
        for tail in text.pool.after(context.tokens[-1]):
            node = 0
            for token in tail[: budget.depth]:
                if token not in tree.children[node] and len(tree) > budget.nodes:
                    break
                node = tree.child(node, token)
        text.tree = TokenTree.of(tree.tokens, tree.parents)
        return text.tree

    def observe(self, context: Context, turn: Round) -> None:
        """Take the next iteration from the ends of the columns, and its n-grams into the pool."""
        text = self._text(context)
        if not text.ends or turn.tree is not text.tree:
            return
        best = turn.extras[_KEY][:, 0].tolist()
        rows = [[turn.tree.lists()[0][0], *text.rows[0]], *text.rows[1:]]
        found = [best[node] for node in text.ends]
        rows.append([*found, *rows[-1][len(found) :]])  # columns without room stay as they are
        if len(rows) == self.ngram:
            for column in range(len(found)):
                text.pool.learn([row[column] for row in rows])
            del rows[0]  # the next row's guesses are a token further: the window moves on
        text.rows = [rows[0][1:], *rows[1:]]
        text.tree = None

    def reset(self) -> None:
        """Forget all texts."""
        self._texts.clear()

    @property
    def store_bytes(self) -> int:
        """Bytes of the pools of all texts under way."""
        return sum(text.pool.nbytes for text in self._texts)

    def _text(self, context: Context) -> _Text:
        """Return what is known of a text, all of it read."""
        text = self._texts[context]
        if not text.rows:
            # nothing is known yet: tokens of the prompt, at random but always the same
            text.rows = [random.Random(0).choices(context.tokens, k=self.window - 1)]
        if self.text:
            for end in range(max(text.read + 1, self.ngram), len(context) + 1):
                text.pool.learn(context.tokens[end - self.ngram : end])
        text.read = len(context)
        return text

    def _place(self, rows: list[list[int]], tree: _Trie, budget: Budget) -> list[int]:
        """Put the window into the tree; return the ends of its columns, as many as have room.

        Where the budget is smaller than the drafter's own, window and n-grams share it as they
        share that one.
        """
        share = self.window / (self.window + self.guesses)
        fit = int((min(budget.nodes, self._own.nodes) * share + 1) / len(rows) + 1e-9)
        if len(rows) - 1 <= budget.nodes:
            fit = max(fit, 1)
        columns = min(self.window, fit, budget.depth - len(rows) + 2)
        if columns < 1:
            return []
        ends = [0]
        for token in rows[0][: columns - 1]:
            ends.append(tree.child(ends[-1], token))
        for row in rows[1:]:
            ends = [tree.child(node, token) for node, token in zip(ends, row, strict=False)]
        return ends


class _Trie:
    """A tree under way in which no two children of a node are the same token."""

    def __init__(self, root: int) -> None:
        self.tokens = [root]
        self.parents = [-1]
        self.children: list[dict[int, int]] = [{}]

    def __len__(self) -> int:
        return len(self.tokens)

    def child(self, node: int, token: int) -> int:
        """Return the child of a node with this token, made if there is none."""
        found = self.children[node].get(token)
        if found is None:
            found = self.children[node][token] = len(self.tokens)
            self.tokens.append(token)
            self.parents.append(node)
            self.children.append({})
        return found
