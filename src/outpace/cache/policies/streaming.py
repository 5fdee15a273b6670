"""The first tokens and the last ones: text without an end at constant memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Held
from .checks import need
from .sized import SizedPolicy


@dataclass(frozen=True)
class StreamingPolicy(SizedPolicy):
    """StreamingLLM (arXiv 2309.17453): attention sinks and a window.

    The first tokens draw attention whatever they say; without them a model that is past its window
    writes nonsense.

    Args:
        sinks: how many of the first tokens are kept.
        recent: how many of the last ones are left at a boundary.
        every: tokens between two boundaries; 0 chooses an eighth of what is kept, 64 at most.

    Raises:
        InvalidArgument: a number out of range.
    """

    sinks: int = 4
    recent: int = 508
    every: int = 0
    uniform = True

    def __post_init__(self) -> None:
        need(self.sinks >= 0, f"streaming: sinks {self.sinks}: give 0 or more")
        need(self.recent >= 1, f"streaming: recent {self.recent}: give 1 or more")
        self._check_block("streaming")

    @property
    def size(self) -> int:
        """Sinks and window."""
        return self.sinks + self.recent

    @property
    def always(self) -> int:
        """The sinks."""
        return self.sinks

    def kept(self, held: Held) -> Tensor | None:
        """Return the places of the sinks and of the window."""
        count = len(held)
        if count <= self.size:
            return None
        places = torch.arange(count, device=held.indices.device)
        return torch.cat([places[: self.sinks], places[count - self.recent :]])

    def __str__(self) -> str:
        return f"streaming(sinks={self.sinks}, recent={self.recent}{self._own_block})"


class RecentPolicy(StreamingPolicy):
    """The last tokens alone: what streaming is compared with, and far worse.

    Args:
        size: how many of the last tokens are left at a boundary.
        every: as in streaming.

    Raises:
        InvalidArgument: a number out of range.
    """

    def __init__(self, size: int = 512, every: int = 0) -> None:
        need(size >= 1, f"recent: size {size}: give 1 or more")
        super().__init__(0, size, every)

    def __str__(self) -> str:
        return f"recent(size={self.recent}{self._own_block})"
