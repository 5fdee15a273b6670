"""Nothing is forgotten."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .base import CachePolicy, Held


@dataclass(frozen=True)
class FullPolicy(CachePolicy):
    """Keeps all keys and values, as without a policy."""

    uniform = True

    @property
    def block(self) -> int:
        """None, so any."""
        return 1

    def due(self, length: int) -> int | None:
        """Never."""
        return None

    def kept(self, held: Held) -> Tensor | None:
        """All."""
        return None

    def __str__(self) -> str:
        return "full"
