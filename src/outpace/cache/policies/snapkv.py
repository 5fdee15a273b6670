"""What the last tokens look at is kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from .base import Held
from .checks import need
from .key_norm import smallest, with_last
from .sized import SizedPolicy


@dataclass(frozen=True)
class SnapKVPolicy(SizedPolicy):
    """The window, and of what lies before it the places the window looks at (arXiv 2404.14469).

    Attention of the last tokens is added up for each key head and smoothed over neighbours, so that
    what surrounds a place comes with it. The method compresses a prompt once; here it does so at
    every boundary, the prompt's and the text's.

    Args:
        window: how many of the last tokens look, and are kept.
        size: how many are left at a boundary, the window among them.
        kernel: neighbours that are smoothed over, an odd number.
        every: tokens between two boundaries; 0 chooses an eighth of the size, 64 at most.

    Raises:
        InvalidArgument: a number out of range.
    """

    window: int = 32
    size: int = 512
    kernel: int = 5
    every: int = 0

    def __post_init__(self) -> None:
        need(self.window >= 1, f"snapkv: window {self.window}: give 1 or more")
        need(
            self.size > self.window,
            f"snapkv: size {self.size} with a window of {self.window}: give a larger size",
        )
        need(
            self.kernel >= 1 and self.kernel % 2 == 1,
            f"snapkv: kernel {self.kernel}: give an odd number, 1 or more",
        )
        self._check_block("snapkv")

    @property
    def observes(self) -> int:  # type: ignore[override]
        """The window."""
        return self.window

    def kept(self, held: Held) -> Tensor | None:
        """Return the places the window looks at most, of each head, and the window."""
        count = len(held)
        if count <= self.size:
            return None
        assert held.attention is not None
        older = count - self.window
        seen = held.attention[:older].T[None]  # [1, H, n]
        smooth = F.avg_pool1d(
            seen, self.kernel, stride=1, padding=self.kernel // 2, count_include_pad=False
        )
        return with_last(smallest(-smooth[0].T, self.size - self.window), older, count)

    def __str__(self) -> str:
        kernel = f", kernel={self.kernel}" if self.kernel != 5 else ""
        return f"snapkv(window={self.window}, size={self.size}{kernel}{self._own_block})"
