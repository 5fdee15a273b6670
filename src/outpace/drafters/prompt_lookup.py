"""The prompt and the output so far draft what followed the longest match of their own end."""

from ..drawing import Drawing
from ..errors import InvalidArgument
from ..types import Budget, Context, Round, TokenTree
from .base import Drafter


class PromptLookupDrafter(Drafter):
    """Find the last ``n`` tokens earlier in the text, longest n first, and copy what followed.

    (Prompt lookup decoding, a form of arXiv 2304.04487.) Of several places the latest counts. A
    copy that reaches the end of the text goes on with what it has copied, so a loop is drafted to
    the full length. An index of the last place of every n-gram keeps a round's cost constant.

    Args:
        longest: the longest n-gram looked for.
        shortest: the shortest.

    Raises:
        InvalidArgument: not 1 <= shortest <= longest.
    """

    def __init__(self, longest: int = 4, shortest: int = 1) -> None:
        if not 1 <= shortest <= longest:
            raise InvalidArgument(
                f"n-grams of {shortest} to {longest} tokens: give 1 <= shortest <= longest"
            )
        self._sizes = range(longest, shortest - 1, -1)
        self._after: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Index the prompt; nothing outlives the text it stands in."""
        self._after.clear()
        self._indexed = 0
        self._index(context)

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Return the copy as a chain, or the root alone where nothing matches."""
        self._index(context)
        tokens, depth = context.tokens, min(budget.depth, budget.nodes)
        if depth < 1:
            return TokenTree.chain(tokens[-1])
        for size in self._sizes:
            if size >= len(tokens):
                continue
            start = self._after.get(tuple(tokens[-size:]))
            if start is not None:
                text = tokens[start : start + depth]
                while len(text) < depth:
                    text.append(text[len(text) - (len(tokens) - start)])
                return TokenTree.chain(tokens[-1], text)
        return TokenTree.chain(tokens[-1])

    def observe(self, context: Context, turn: Round) -> None:
        """Index what was emitted."""
        self._index(context)

    def _index(self, context: Context) -> None:
        """Note for every n-gram where its continuation starts; the end has none yet."""
        tokens = context.tokens
        for place in range(max(1, self._indexed), len(tokens)):
            for size in self._sizes:
                if size <= place:
                    self._after[tuple(tokens[place - size : place])] = place
        self._indexed = len(tokens)
