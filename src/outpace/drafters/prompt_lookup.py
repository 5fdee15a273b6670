"""The prompt and the output so far draft what followed the longest match of their own end."""

import sys
from collections.abc import Sequence

from ..drawing import Drawing
from ..errors import InvalidArgument
from ..types import Budget, Context, TokenTree
from .base import Drafter
from .texts import Texts

Gram = tuple[int, ...]


class PromptLookupDrafter(Drafter):
    """Find the last ``n`` tokens earlier in the text, longest n first, and copy what followed.

    (Prompt lookup decoding, a form of arXiv 2304.04487.) Of several places the latest counts. A
    copy that reaches the end of the text goes on with what it has copied, so a loop is drafted to
    the full length. An index of the last place of every n-gram keeps a round's cost constant; its
    older half is dropped whenever the younger one is full.

    Args:
        longest: the longest n-gram looked for.
        shortest: the shortest.
        window: how many of the latest tokens of a text to look in: the last half at least.

    Raises:
        InvalidArgument: not 1 <= shortest <= longest, or a window below 2.
    """

    def __init__(self, longest: int = 4, shortest: int = 1, *, window: int = 65_536) -> None:
        if not 1 <= shortest <= longest:
            raise InvalidArgument(
                f"n-grams of {shortest} to {longest} tokens: give 1 <= shortest <= longest"
            )
        if window < 2:
            raise InvalidArgument(f"a window of {window} tokens: give 2 or more")
        self._sizes = range(longest, shortest - 1, -1)
        self._texts = Texts(lambda: _Index(self._sizes, window // 2))

    @property
    def store_bytes(self) -> int:
        """Bytes of the indices of the texts under way."""
        return sum(index.nbytes for index in self._texts)

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Index the prompt; nothing outlives the text it stands in."""
        self._texts.start(context, resume=resume).read(context.tokens)

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Return the copy as a chain, or the root alone where nothing matches."""
        index, tokens = self._texts[context], context.tokens
        index.read(tokens)
        depth = min(budget.depth, budget.nodes)
        if depth < 1:
            return TokenTree.chain(tokens[-1])
        for size in self._sizes:
            if size >= len(tokens):
                continue
            start = index.after(tuple(tokens[-size:]))
            if start is not None:
                text = tokens[start : start + depth]
                while len(text) < depth:
                    text.append(text[len(text) - (len(tokens) - start)])
                return TokenTree.chain(tokens[-1], text)
        return TokenTree.chain(tokens[-1])


class _Index:
    """Where the continuation of every n-gram of a text starts; the end has none yet.

    Two generations of ``half`` places each: those since the last multiple of ``half``, and those
    before it.
    """

    def __init__(self, sizes: Sequence[int], half: int) -> None:
        self._sizes = sizes
        self._half = half
        self._young: dict[Gram, int] = {}
        self._old: dict[Gram, int] = {}
        self._read = 0

    def __len__(self) -> int:
        return self._read

    @property
    def nbytes(self) -> int:
        """Bytes held, every n-gram as one of the longest; its tokens are the text's own objects."""
        entry = sys.getsizeof((0,) * self._sizes[0]) + sys.getsizeof(self._half)
        both = (self._young, self._old)
        return sum(sys.getsizeof(places) + entry * len(places) for places in both)

    def read(self, tokens: Sequence[int]) -> None:
        """Catch up with the text, given whole."""
        known = (len(tokens) - 1) // self._half * self._half - self._half
        for place in range(max(1, known, self._read), len(tokens)):
            if place % self._half == 0:
                self._old, self._young = self._young, {}
            for size in self._sizes:
                if size <= place:
                    self._young[tuple(tokens[place - size : place])] = place
        self._read = len(tokens)

    def after(self, gram: Gram) -> int | None:
        """Return the last place known where ``gram`` went on."""
        place = self._young.get(gram)
        return self._old.get(gram) if place is None else place
