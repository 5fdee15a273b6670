"""Integer bookkeeping: which slot holds which committed token, and which are free."""

import heapq
from collections.abc import Sequence

# The views a forward may read: few sizes, so that compiled or captured forwards are reused.
_BUCKETS = tuple(128 << doubling for doubling in range(12))

SPARE = 64
"""Slots beside what a policy keeps and its block: the widest round."""
_REPACK = 64


def bucket(slots: int) -> int:
    """Return the number of slots a forward reads that must see ``slots`` of them."""
    for size in _BUCKETS:
        if slots <= size:
            return size
    return -(-slots // _BUCKETS[-1]) * _BUCKETS[-1]


class Slots:
    """Slots of one sequence.

    A slot is where keys and values lie; a position is what the position encoding got. Committed
    tokens keep both; taken slots belong to the round under way and are committed or freed by it.

    Attributes:
        slots: the slot of each committed token that is held, in order.
        positions: its position.
        indices: which token of the text it is.
        length: of the text, forgotten tokens included, the last one too where it is one of those.
    """

    def __init__(self) -> None:
        self.slots: list[int] = []
        self.positions: list[int] = []
        self.indices: list[int] = []
        self.length = 0
        self._freed: list[int] = []  # a heap of slots below _top that nobody holds
        self._top = 0

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def top(self) -> int:
        """One more than the highest slot in use."""
        return self._top

    def copy(self) -> "Slots":
        """Return the same bookkeeping, to go on with apart."""
        twin = Slots()
        twin.slots, twin.positions = list(self.slots), list(self.positions)
        twin.indices, twin.length = list(self.indices), self.length
        twin._freed, twin._top = list(self._freed), self._top
        return twin

    def take(self, count: int) -> list[int]:
        """Return ``count`` free slots, lowest first."""
        taken = [heapq.heappop(self._freed) for _ in range(min(count, len(self._freed)))]
        fresh = count - len(taken)
        taken.extend(range(self._top, self._top + fresh))
        self._top += fresh
        return taken

    def commit(
        self,
        slots: Sequence[int],
        positions: Sequence[int],
        indices: Sequence[int] | None = None,
    ) -> None:
        """Append tokens of the text, whose keys and values lie at ``slots``.

        Args:
            slots: of each.
            positions: likewise.
            indices: which tokens they are; None is the next ones.
        """
        following = range(self.length, self.length + len(slots)) if indices is None else indices
        self.slots.extend(slots)
        self.positions.extend(positions)
        self.indices.extend(following)
        self.length = following[-1] + 1 if following else self.length

    def free(self, slots: Sequence[int]) -> None:
        """Give back taken or committed-and-removed slots."""
        for slot in slots:
            heapq.heappush(self._freed, slot)

    def keep(self, places: Sequence[int]) -> list[int]:
        """Keep the tokens at these places of the lists; return the others' slots, now free."""
        kept = [self.slots[place] for place in places]
        gone = sorted(set(self.slots) - set(kept))
        self.positions = [self.positions[place] for place in places]
        self.indices = [self.indices[place] for place in places]
        self.slots = kept
        self.free(gone)
        return gone

    def restart(self, indices: Sequence[int], positions: Sequence[int]) -> None:
        """Hold these tokens of the same text at the first slots, and nothing else."""
        self.slots, self.positions = list(range(len(indices))), list(positions)
        self.indices = list(indices)
        self._freed, self._top = [], len(indices)

    def rollback(self, length: int) -> list[int]:
        """Forget all committed tokens past the first ``length``; return their slots, now free."""
        gone = self.slots[length:]
        del self.slots[length:], self.positions[length:], self.indices[length:]
        self.length -= len(gone)
        if self.slots and len(gone) < _REPACK:
            self.free(gone)
        else:  # so much is free that a view of what is left may be smaller
            self._top = max(self.slots, default=-1) + 1
            self._freed = sorted(set(range(self._top)) - set(self.slots))
        return gone
