"""What a round costs: the target's staircase in width, the drafter's line in length."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of the parts of a round, as measured for one target, drafter, runtime and machine.

    Attributes:
        verifying: of a forward of the target and its verification, by width, root included.
            Between two widths lies a step: a width costs what the next one costs.
        drafting: of a draft, by how many tokens it has; 0 is what asking costs where nothing is
            drafted. Beyond the longest it grows as between the two longest.
        catching_up: of feeding the drafter tokens it has not seen, each, beyond the usual one.
        overhead: of everything else in a round.
        held: slots that the target's forwards read when they were timed.
        per_slot: seconds more of a target forward for each slot beyond ``held``.
    """

    verifying: Mapping[int, float]
    drafting: Mapping[int, float] = field(default_factory=lambda: {0: 0.0, 1: 0.0})
    catching_up: float = 0.0
    overhead: float = 0.0
    held: int = 0
    per_slot: float = 0.0

    def verify(self, width: int, slots: int | None = None) -> float:
        """Return the seconds of a forward over ``width`` nodes that reads ``slots`` slots."""
        widths = sorted(self.verifying)
        place = min(bisect_left(widths, width), len(widths) - 1)
        more = 0 if slots is None else slots - self.held
        return self.verifying[widths[place]] + more * self.per_slot

    def draft(self, length: int) -> float:
        """Return the seconds of drafting ``length`` tokens in a row."""
        lengths = sorted(self.drafting)
        if length in self.drafting or len(lengths) == 1:
            return self.drafting.get(length, self.drafting[lengths[0]])
        upper = min(max(bisect_left(lengths, length), 1), len(lengths) - 1)
        low, high = lengths[upper - 1], lengths[upper]
        step = (self.drafting[high] - self.drafting[low]) / (high - low)
        return self.drafting[low] + (length - low) * step

    def round(self, length: int, slots: int | None = None, unseen: int = 0) -> float:
        """Return the seconds of a round of ``length`` draft tokens.

        Args:
            length: draft tokens in a row; 0 is a plain round, in which the drafter has no part.
            slots: that the target's forward reads.
            unseen: tokens the drafter has to be fed beyond the usual one.
        """
        drafting = self.draft(length) + unseen * self.catching_up if length else 0.0
        return drafting + self.verify(length + 1, slots) + self.overhead
