"""Plain decoding, through the same loop."""

from ..drawing import Drawing
from ..types import Budget, Context, TokenTree
from .base import Drafter


class NoDrafter(Drafter):
    """Propose nothing: the tree is the root alone, the baseline of every comparison."""

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Return the root."""
        return TokenTree.chain(context.tokens[-1])
