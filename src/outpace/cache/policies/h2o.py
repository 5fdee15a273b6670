"""What was looked at most so far is kept."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .base import Held
from .checks import need
from .key_norm import smallest, with_last
from .sized import SizedPolicy


@dataclass(frozen=True)
class H2OPolicy(SizedPolicy):
    """Heavy hitters: attention since the beginning, and the last tokens (arXiv 2306.14048).

    Args:
        size: how many are left at a boundary.
        recent: the share of these that are the last ones.
        every: tokens between two boundaries; 0 chooses an eighth of the size, 64 at most.

    Raises:
        InvalidArgument: a number out of range.
    """

    size: int = 512
    recent: float = 0.5
    every: int = 0
    observes = None

    def __post_init__(self) -> None:
        need(self.size >= 1, f"h2o: size {self.size}: give 1 or more")
        need(0 <= self.recent <= 1, f"h2o: recent {self.recent}: give a share, 0 to 1")
        self._check_block("h2o")

    def kept(self, held: Held) -> Tensor | None:
        """Return the places looked at most, of each head, and the last ones."""
        count = len(held)
        if count <= self.size:
            return None
        assert held.attention is not None
        recent = int(self.size * self.recent)
        older = count - recent
        return with_last(smallest(-held.attention[:older], self.size - recent), older, count)

    def __str__(self) -> str:
        return f"h2o(size={self.size}, recent={self.recent}{self._own_block})"
