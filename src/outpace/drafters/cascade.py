"""A fixed order of drafters: the first that has a draft drafts."""

from .sources import Combined, Source


class CascadeDrafter(Combined):
    """Ask the sources in the order given, the cheapest and surest first.

    Args:
        sources: in order; None is suffix decoding, prompt lookup, then n-grams.
    """

    def order(self) -> list[Source]:
        """See the base class."""
        return self.sources
