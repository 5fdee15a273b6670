"""An online suffix automaton with counts: which token followed a string, and how often.

Construction: Blumer et al., "The smallest automaton recognizing the subwords of a text" (1985).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

END = -1
"""Stands between texts; never matched, never proposed."""
WIDTH = 8
"""Of each state, so many children can be asked for: those of the largest counts."""

_EDGE = 2 * 28  # bytes of the two int objects of an edge
_RANKED = sys.getsizeof([0] * (WIDTH + 1))


class SuffixAutomaton:
    """All substrings of the texts read so far; those of up to ``longest + 1`` tokens are counted.

    A state is a set of strings that end at the same places. Reading a token costs amortised O(1)
    for the states and at most ``longest`` steps for the counts; matching and stepping do not
    depend on how much was read. There are at most two states and three edges a token.

    Longer strings stay uncounted: raising the count of every suffix would cost O(n) a token in a
    text that repeats itself.

    Args:
        longest: tokens of the longest string that is matched; its children are counted still.

    Attributes:
        tokens: what was read, :data:`END` after each finished text.
        work: elementary steps so far (links followed, edges read, written or compared), so that
            cost can be checked without a clock.
    """

    def __init__(self, longest: int = 32) -> None:
        self.longest = longest
        self.tokens = array("q")
        self.work = 0
        self._next: list[dict[int, int]] = [{}]  # state 0 is the empty string
        self._link = array("q", [-1])  # the state of the longest suffix that ends elsewhere too
        self._size = array("q", [0])  # tokens of the longest string of the state
        self._count = array("q", [0])
        self._best: dict[int, list[int]] = {}  # of states with more than WIDTH children
        self._last = 0
        self._edges = 0
        self._table_bytes = sys.getsizeof(self._next[0])  # of the dictionaries of edges
        self._end = 0  # the state of the last tokens of the text, at most ``longest``
        self._end_size = 0

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def states(self) -> int:
        """How many states there are."""
        return len(self._next)

    @property
    def nbytes(self) -> int:
        """Bytes it holds, counted as it grows: an integer of a table counts wherever it stands."""
        arrays = (self.tokens, self._link, self._size, self._count)
        edges = self._table_bytes + _EDGE * self._edges + sys.getsizeof(self._next)
        best = sys.getsizeof(self._best) + _RANKED * len(self._best)
        return sum(map(sys.getsizeof, arrays)) + edges + best

    def read(self, tokens: Sequence[int]) -> None:
        """Read on in the current text."""
        for token in tokens:
            self._extend(token)
            self._tally(token)

    def finish(self) -> None:
        """End the current text: no string goes on from it into the next one."""
        self._extend(END)
        self._end = self._end_size = 0

    def repeated(self) -> tuple[int, int]:
        """Return state and length of the longest end of the text that occurs in it earlier too.

        At most ``longest`` tokens; length 0 where the last token is new.
        """
        if self._last == 0:
            return 0, 0
        state = self._link[self._last]
        if self._size[state] >= self.longest:
            return self._end, self.longest
        return state, self._size[state]

    def match(self, tokens: Sequence[int]) -> tuple[int, int]:
        """Return state and length of the longest end of ``tokens`` that was read, if any."""
        state = length = 0
        for token in tokens[-self.longest :]:
            while state and token not in self._next[state]:
                state = self._link[state]
                length = self._size[state]
                self.work += 1
            self.work += 1
            child = self._next[state].get(token)
            if child is not None:
                state, length = child, length + 1
        return state, length

    def count(self, state: int) -> int:
        """Return how often the strings of a state occur."""
        return self._count[state]

    def followed(self, state: int, length: int) -> tuple[int, int, int]:
        """Return state and length of a string, and how often something can have followed it.

        Nothing can have followed the end of a text that goes on. A string that is found there
        alone is replaced by its longest end that is found earlier too, so a loop goes on as it
        did before; and of what is found earlier too that last occurrence does not count.
        """
        count = self._count[state]
        if self._last and self.tokens[-1] != END:
            again, size = self.repeated()
            if state == self._last:
                state, length, count = again, size, self._count[again]
            count -= state == again
        return state, length, count

    def children(self, state: int) -> list[int]:
        """Return the tokens read most often after a state, at most ``WIDTH``.

        The largest count comes first, of equal ones the smaller token.
        """
        if state in self._best:
            self.work += WIDTH
            return self._best[state]
        self.work += len(self._next[state])
        return self._ranked(state)

    def step(self, state: int, length: int, token: int) -> tuple[int, int]:
        """Return state and length of a string and ``token``, which was read after it.

        What is longer than ``longest`` loses its first token.
        """
        self.work += 1
        return self._cut(self._next[state][token], length + 1)

    def after(self, state: int, token: int) -> int:
        """Return how often ``token`` was read after the strings of a state."""
        return self._count[self._next[state][token]]

    def _cut(self, state: int, length: int) -> tuple[int, int]:
        if length <= self.longest:
            return state, length
        link = self._link[state]
        return (link if self._size[link] >= self.longest else state), self.longest

    def _extend(self, token: int) -> None:
        """Add the states and edges of all strings that end with a new token."""
        self.tokens.append(token)
        state, new = self._last, self._state({}, self._size[self._last] + 1, 0, 0)
        while state >= 0 and token not in self._next[state]:
            edges = self._next[state]
            self._table_bytes -= sys.getsizeof(edges)
            edges[token] = new
            self._table_bytes += sys.getsizeof(edges)
            self._edges += 1
            state = self._link[state]
            self.work += 1
        if state >= 0:
            self._link[new] = self._shortened(state, token)
        self._last = new

    def _shortened(self, state: int, token: int) -> int:
        """Return the state of a state's longest string and ``token``, split off if need be."""
        child = self._next[state][token]
        if self._size[child] == self._size[state] + 1:
            return child
        size = self._size[state] + 1
        # every edge copied is one of at most three a token that there are in the end
        copied = self._next[child].copy()
        split = self._state(copied, size, self._link[child], self._count[child])
        self.work += len(copied)
        if child in self._best:
            self._best[split] = self._best[child].copy()
        while state >= 0 and self._next[state].get(token) == child:
            self._next[state][token] = split
            state = self._link[state]
            self.work += 1
        self._link[child] = split
        if self._end == child and self._end_size <= size:
            self._end = split
        return split

    def _state(self, edges: dict[int, int], size: int, link: int, count: int) -> int:
        self._next.append(edges)
        self._table_bytes += sys.getsizeof(edges)
        self._edges += len(edges)
        self._size.append(size)
        self._link.append(link)
        self._count.append(count)
        return len(self._next) - 1

    def _tally(self, token: int) -> None:
        """Count every string of up to ``longest + 1`` tokens that ends with a new token."""
        before, counted = self._end, -1
        while before >= 0:
            child = self._next[before][token]
            if child != counted:  # neighbours on the way up may share a child
                self._count[child] += 1
                counted = child
            if len(self._next[before]) > WIDTH:
                self._promote(before, token)
            before = self._link[before]
            self.work += 1
        self._count[0] += 1
        self._end, self._end_size = self._cut(self._next[self._end][token], self._end_size + 1)

    def _promote(self, state: int, token: int) -> None:
        """Keep a state's best children the best: only the count of ``token`` has grown."""
        best = self._best.get(state)
        if best is None:
            self._best[state] = self._ranked(state)
            return
        if token not in best:
            if len(best) == WIDTH and self._rank(state, token) > self._rank(state, best[-1]):
                return
            del best[WIDTH - 1 :]
            best.append(token)
        best.sort(key=lambda child: self._rank(state, child))
        self.work += WIDTH

    def _ranked(self, state: int) -> list[int]:
        known = [token for token in self._next[state] if token != END]
        return sorted(known, key=lambda token: self._rank(state, token))[:WIDTH]

    def _rank(self, state: int, token: int) -> tuple[int, int]:
        return -self._count[self._next[state][token]], token
