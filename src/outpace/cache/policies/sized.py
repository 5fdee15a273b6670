"""What policies share that keep so many tokens, and forget the others block by block."""

from __future__ import annotations

from .base import CachePolicy, boundary
from .checks import need, usual_block


class SizedPolicy(CachePolicy):
    """Leaves ``size`` tokens at a boundary, the first of which is a block later.

    Attributes:
        every: tokens between two boundaries; 0 chooses an eighth of the size, 64 at most.
    """

    every: int

    @property
    def _budget(self) -> int:
        assert self.size is not None
        return self.size

    @property
    def block(self) -> int:
        """Tokens between two boundaries."""
        return self.every or usual_block(self._budget)

    def due(self, length: int) -> int:
        """Return the first boundary after a length."""
        return boundary(length, self._budget + self.block, self.block)

    @property
    def _own_block(self) -> str:
        """How the block is written after the other settings, where it was given."""
        return f", every={self.every}" if self.every else ""

    def _check_block(self, name: str) -> None:
        need(self.every >= 0, f"{name}: every {self.every}: give 0 (chosen for you) or more")
