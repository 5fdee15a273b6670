"""Who sees whom: additive masks over slots, one per kind of layer."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig

from ..errors import UnsupportedModel

# Rows up to here carry the mask already repeated for grouped queries (attention packs them);
# above, in a prefill, a mask G times as tall would cost more than repeated keys.
PACKED_WIDTH = 64

Masks = Tensor | dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class _Reach:
    """How far back a kind of layer looks: a window, a chunk, or everything."""

    window: int | None = None
    chunk: int | None = None

    def allowed(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Return bool ``[W, S]`` for positions ``query [W]``, ``key [S]``; None is everything."""
        if self.window is not None:
            return key[None, :] > query[:, None] - self.window
        if self.chunk is not None:
            return key[None, :] // self.chunk == query[:, None] // self.chunk
        return None


def _reaches(config: PretrainedConfig, name: str) -> dict[str, _Reach] | _Reach:
    """Read off the configuration what each kind of layer sees, by transformers' own rules."""
    window = getattr(config, "sliding_window", None)
    chunk = getattr(config, "attention_chunk_size", None)
    known: dict[str, Callable[[], _Reach]] = {
        "full_attention": _Reach,
        "sliding_attention": lambda: _Reach(window=window),
        "chunked_attention": lambda: _Reach(chunk=chunk),
    }
    kinds: Any = getattr(config, "layer_types", None)
    if kinds is None:
        if window is not None:
            return _Reach(window=window)
        return _Reach(chunk=chunk)
    for kind in sorted(set(kinds)):
        if kind not in known:
            raise UnsupportedModel(
                f"{name} ({config.model_type}) has {kind} layers, which keep no keys and values by "
                "slot: use transformers' own generate for this model"
            )
    return {kind: known[kind]() for kind in sorted(set(kinds))}


class MaskBuilder:
    """Builds the masks of one model.

    Args:
        config: the model's text configuration.
        dtype: of the masks: the model's.
        name: how to call the model in a refusal.
        packed_width: rows up to which grouped queries are packed; None is always.
    """

    def __init__(
        self,
        config: PretrainedConfig,
        dtype: torch.dtype,
        name: str = "",
        packed_width: int | None = PACKED_WIDTH,
    ) -> None:
        self._reaches = _reaches(config, name or "the model")
        heads = config.num_attention_heads
        self._groups = heads // (getattr(config, "num_key_value_heads", None) or heads)
        self._dtype = dtype
        self._packed_width = packed_width
        self._kept: tuple[Tensor, Tensor] | None = None

    def unpacked(self) -> MaskBuilder:
        """Return the same for wide forwards, where a mask as tall as grouped queries costs more."""
        twin = copy(self)
        twin._packed_width = 0
        return twin

    def build(self, held: Tensor, where: Tensor, ancestors: Tensor, rows: Tensor) -> Masks:
        """Return the mask, or one per kind of layer.

        Args:
            held: ``[S]`` int64, the position of the committed token in each slot, -1 where there
                is none.
            where: ``[2, M]``, positions and slots of the round's nodes.
            ancestors: bool ``[W, M]``, which nodes each row sees, itself included.
            rows: ``[W]`` int64, the position of each row.

        Returns:
            Additive ``[1, 1, R, S]``, R = W or, for narrow forwards with grouped queries, G·W.
        """
        positions, slots = where[0], where[1]
        width = ancestors.shape[0]
        # Not expanded: what Inductor writes by index into rows that share memory is wrong.
        seen = (held >= 0).repeat(width, 1).index_copy(1, slots, ancestors)
        if isinstance(self._reaches, _Reach):
            return self._additive(seen, self._reaches, held, rows, slots, positions)
        return {
            kind: self._additive(seen, reach, held, rows, slots, positions)
            for kind, reach in self._reaches.items()
        }

    def _additive(
        self,
        seen: Tensor,
        reach: _Reach,
        held: Tensor,
        rows: Tensor,
        slots: Tensor,
        positions: Tensor,
    ) -> Tensor:
        where = held
        if reach.window is not None or reach.chunk is not None:
            where = held.index_copy(0, slots, positions)
        near = reach.allowed(rows, where)
        if near is not None:
            seen = seen & near
        mask = torch.where(seen, *self._values(seen.device))
        width, view = mask.shape
        packed = self._packed_width is None or width <= self._packed_width
        if self._groups > 1 and packed:
            # no copy for a width of one
            mask = mask.expand(self._groups, width, view).reshape(-1, view)
        return mask[None, None]

    def _values(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return what is added to a score that is seen, and to one that is not."""
        if self._kept is not None and self._kept[0].device == device:
            return self._kept
        lowest = torch.finfo(self._dtype).min
        seen, unseen = torch.tensor([0.0, lowest], dtype=self._dtype, device=device)
        if not torch.compiler.is_compiling():  # what is made while tracing is no tensor
            self._kept = seen, unseen
        return seen, unseen
