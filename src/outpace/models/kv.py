"""Preallocated keys and values, written by slot: transformers' cache interface over them."""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class _SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, ``[1, H_kv, S + 1, D]``; the last slot takes padded rows."""

    is_sliding = False

    def __init__(self, owner: "SlotCache") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._owner = owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        # Zeroed, not empty: a NaN behind a mask poisons the attention's weighted sum.
        slots = self._owner.capacity + 1
        for name, states in (("keys", key_states), ("values", value_states)):
            batch, heads, _, width = states.shape
            setattr(self, name, states.new_zeros(batch, heads, slots, width))
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        slots, view = self._owner.slots, self._owner.view
        self.keys.index_copy_(2, slots, key_states)
        self.values.index_copy_(2, slots, value_states)
        return self.keys[:, :, :view], self.values[:, :, :view]

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` slots and keep what is there."""
        if not self.is_initialized:
            return
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            new = old.new_zeros(*old.shape[:2], capacity + 1, old.shape[3])
            kept = min(capacity, old.shape[2] - 1)
            new[:, :, :kept] = old[:, :, :kept]
            setattr(self, name, new)

    def adopt(self, other: "_SlotLayer", slots: int) -> None:
        """Take over the first ``slots`` of a layer of the same sizes."""
        if other.keys is None or other.values is None:
            return
        if not self.is_initialized:
            self.lazy_initialization(other.keys, other.values)
        assert self.keys is not None
        assert self.values is not None
        self.keys[:, :, :slots] = other.keys[:, :, :slots]
        self.values[:, :, :slots] = other.values[:, :, :slots]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._owner.view, 0

    def get_seq_length(self) -> int:
        # Models ask for it to guess positions; ours are always given.
        return self._owner.view

    def get_max_length(self) -> int:
        return self._owner.capacity

    @property
    def nbytes(self) -> int:
        if self.keys is None or self.values is None:
            return 0
        return int(self.keys.untyped_storage().nbytes() + self.values.untyped_storage().nbytes())


class SlotCache(Cache):
    """The KV cache of one sequence, addressed by slot.

    Rejecting a token is writing its slot again; accepting a path moves nothing. Which slot
    belongs to which token is bookkeeping of :mod:`outpace.cache`; here are only the tensors.

    Args:
        layers: how many layers the model has.
        capacity: how many slots to hold at first.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        self.capacity = capacity
        self.view = capacity
        self.slots: Tensor = torch.zeros(0, dtype=torch.int64)
        self._slot_layers = [_SlotLayer(self) for _ in range(layers)]
        super().__init__(layers=list(self._slot_layers))

    def at(self, slots: Tensor, view: int) -> "SlotCache":
        """Aim the next forward: write at ``slots [W]``, read the slots below ``view``."""
        self.slots, self.view = slots, view
        return self

    def grow(self, capacity: int) -> None:
        """Hold at least ``capacity`` slots."""
        if capacity > self.capacity:
            for layer in self._slot_layers:
                layer.grow(capacity)
            self.capacity = capacity

    def adopt(self, other: "SlotCache", slots: int) -> None:
        """Copy the first ``slots`` of another model's cache, of as many layers as there are here.

        Args:
            other: of a model whose layers have the same sizes.
            slots: at most the capacity of either.
        """
        with torch.inference_mode():  # as forwards write, so that both may
            for mine, theirs in zip(self._slot_layers, other._slot_layers, strict=False):
                mine.adopt(theirs, slots)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values, from their storages."""
        return sum(layer.nbytes for layer in self._slot_layers)
