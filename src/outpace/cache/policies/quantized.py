"""Nothing is forgotten, but what is not recent is held in few bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from .base import CachePolicy, Held, boundary
from .checks import need, usual_block


@dataclass(frozen=True)
class QuantizedPolicy(CachePolicy):
    """Keys and values older than a window are packed (related: KIVI, arXiv 2402.02750).

    Tokens that may still be taken back lie in the window, in full, so packing loses nothing that
    would be needed again. At each boundary a block is packed, once; attention reads all of it
    unpacked, a layer at a time.

    Args:
        kind: ``int8`` or ``int4``.
        recent: how many of the last tokens stay as they are at a boundary.
        every: tokens between two boundaries; 0 chooses an eighth of the window, 64 at most.

    Raises:
        InvalidArgument: a number out of range, or another word.
    """

    kind: Literal["int8", "int4"] = "int8"
    recent: int = 128
    every: int = 0

    def __post_init__(self) -> None:
        need(self.kind in {"int8", "int4"}, f"quantized: {self.kind!r}: give int8 or int4")
        need(self.recent >= 1, f"quantized: recent {self.recent}: give 1 or more")
        need(self.every >= 0, f"quantized: every {self.every}: give 0 (chosen for you) or more")

    @property
    def packing(self) -> tuple[str, int]:
        """What is packed, and how."""
        return self.kind, self.recent

    @property
    def block(self) -> int:
        """Tokens between two boundaries."""
        return self.every or usual_block(self.recent)

    def due(self, length: int) -> int:
        """Return the first boundary after a length."""
        return boundary(length, self.recent + self.block, self.block)

    def kept(self, held: Held) -> Tensor | None:
        """All."""
        return None

    def __str__(self) -> str:
        own = f", every={self.every}" if self.every else ""
        return f"quantized(kind={self.kind}, recent={self.recent}{own})"
