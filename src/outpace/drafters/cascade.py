"""A fixed order of drafters: the first that has a draft drafts."""

from __future__ import annotations

from collections.abc import Sequence

from ..drawing import Drawing
from ..models import LanguageModel
from ..types import Budget, Context, TokenTree
from .ngram import NgramDrafter
from .prompt_lookup import PromptLookupDrafter
from .sources import Combined, Source
from .suffix import SuffixDrafter
from .tree import TreeDrafter

LOOKUP = Budget.chain(10)
"""What a drafter that costs next to nothing gets: width is its only price."""


def usual_sources(model: LanguageModel | None = None) -> list[Source]:
    """Return suffix decoding, prompt lookup, n-grams and, where there is one, a draft model.

    With a model behind them the others draft only what they are rather sure of.
    """
    if model is None:
        first = SuffixDrafter(), PromptLookupDrafter(longest=5, shortest=2), NgramDrafter()
    else:
        first = (
            SuffixDrafter(least=1.5),
            PromptLookupDrafter(longest=5, shortest=4),
            NgramDrafter(5, multilevel=False),
        )
    suffix, lookup, ngram = first
    sources = [
        Source("suffix", suffix),
        Source("prompt-lookup", lookup, LOOKUP),
        Source("ngram", ngram, LOOKUP),
    ]
    if model is not None:
        sources.append(Source("model", TreeDrafter(model)))
    return sources


class CascadeDrafter(Combined):
    """Ask the sources in the order given, the cheapest and surest first.

    Args:
        sources: in order; None is :func:`usual_sources`.
        model: a draft model for the usual ones.
    """

    def __init__(
        self, sources: Sequence[Source] | None = None, *, model: LanguageModel | None = None
    ) -> None:
        super().__init__(usual_sources(model) if sources is None else sources)

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Return the draft of the first source that has one, or the root alone."""
        tree = TokenTree.chain(context.tokens[-1])
        for source in self.sources:
            tree = self.ask(source, context, budget, drawing)
            if len(tree) > 1:
                break
        return tree
