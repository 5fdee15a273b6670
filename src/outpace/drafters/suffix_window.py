"""The latest part of a text as suffix automata, so that a text may go on for ever."""

from __future__ import annotations

from collections.abc import Sequence

from .suffix_automaton import SuffixAutomaton


class SuffixWindow:
    """Between the last half and the whole of ``size`` tokens of one text.

    There are two generations of half the size each, as in a store. They overlap by ``longest``
    tokens, so that every string that can be matched is whole in one of them. Where they begin
    depends on the length of the text alone: generation k has the ``size / 2`` tokens from
    ``k · (size / 2 - longest)`` on. A text of no more than that is one automaton.

    Args:
        size: tokens of both, at least four for each of ``longest``.
        longest: tokens of the longest string that is matched.
    """

    def __init__(self, size: int, longest: int) -> None:
        self.longest = longest
        self.young = SuffixAutomaton(longest)
        self.old: SuffixAutomaton | None = None
        self._half = size // 2
        self._step = self._half - longest
        self._first = 0  # place of the first token that the young one has read

    def __len__(self) -> int:
        """How many tokens of the text are read, or passed over as too old."""
        return self._first + len(self.young)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.young.nbytes + (self.old.nbytes if self.old is not None else 0)

    def read(self, tokens: Sequence[int]) -> None:
        """Catch up with the text, given whole; of much that is new, with what stays known."""
        generations = -(-(len(tokens) - self._half) // self._step)  # those already full
        before_last = (generations - 1) * self._step
        if before_last > self._first:
            self._begin(before_last)
            self.old = None
        while len(self) < len(tokens):
            if len(self.young) == self._half:
                self.old = self.young
                self._begin(self._first + self._step)
            self.young.read(tokens[len(self) : self._first + self._half])

    def _begin(self, first: int) -> None:
        self.young, self._first = SuffixAutomaton(self.longest), first
