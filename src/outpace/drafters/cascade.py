"""A fixed order of drafters: the first that has a draft drafts."""

from __future__ import annotations

from collections.abc import Sequence

from ..drawing import Drawing
from ..lengths.gate import GateLength
from ..models import LanguageModel
from ..types import Budget, Context, TokenTree
from .model import ModelDrafter
from .ngram import NgramDrafter
from .prompt_lookup import PromptLookupDrafter
from .sources import Combined, Source
from .suffix import SuffixDrafter

LEAST = 0.5
"""Draft tokens that suffix decoding has to expect accepted, so that the next one is not asked."""
LOOKUP = Budget.chain(10)
"""What a drafter that costs next to nothing gets: width is its only price."""


def usual_sources(model: LanguageModel | None = None) -> list[Source]:
    """Return suffix decoding and a draft model, or prompt lookup and n-grams where there is none.

    Each is asked as long as, and for as much as, that pays.
    """
    suffix = Source("suffix", SuffixDrafter(least=LEAST), lengths=GateLength())
    if model is not None:
        return [suffix, Source("model", ModelDrafter(model), lengths=GateLength())]
    lookup = PromptLookupDrafter(longest=5, shortest=2)
    return [
        suffix,
        Source("prompt-lookup", lookup, LOOKUP, GateLength()),
        Source("ngram", NgramDrafter(), LOOKUP, GateLength()),
    ]


class CascadeDrafter(Combined):
    """Ask the sources in the order given, the cheapest and surest first.

    Args:
        sources: in order; None is :func:`usual_sources`.
        model: a draft model for the usual ones.
    """

    repeats = False

    def __init__(
        self, sources: Sequence[Source] | None = None, *, model: LanguageModel | None = None
    ) -> None:
        super().__init__(usual_sources(model) if sources is None else sources)

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Return the draft of the first source that has one, or the root alone."""
        for source in () if self.rests() else self.sources:
            tree = self.ask(source, context, budget, drawing)
            if tree is not None:
                return tree
        return TokenTree.chain(context.tokens[-1])
