"""Preallocated keys and values, written by slot: transformers' cache interface over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from .packed_kv import Packed

Shape = tuple[tuple[int, int], tuple[int, int]]
"""Heads and width of a layer's keys, and of its values."""


@dataclass(slots=True)
class Part:
    """Some key heads of a layer that hold tokens of their own.

    Attributes:
        heads: int64 ``[h]``, which key heads of the layer; None is all.
        keys: ``[S, h, D]``.
        values: ``[S, h, D_v]``.
        shift: by how much its places lie before the slots of the text: slot s is place s - shift.
        packed: keys and values of the first places, in few bits; None where nothing is packed.
    """

    heads: Tensor | None
    keys: Tensor
    values: Tensor
    shift: int = 0
    packed: tuple[Packed, Packed] | None = None

    @property
    def before(self) -> int:
        """How many places are packed: those of :attr:`keys` follow them."""
        return 0 if self.packed is None else len(self.packed[0])

    def write(self, slots: Tensor, key_states: Tensor, value_states: Tensor) -> None:
        """Write ``[W, H, D]`` of all heads of the layer at slots ``[W]``."""
        places = slots - (self.shift + self.before)
        for held, states in ((self.keys, key_states), (self.values, value_states)):
            held.index_copy_(0, places, states if self.heads is None else states[:, self.heads])

    def read(self, view: int) -> tuple[Tensor, Tensor]:
        """Return keys and values below a slot, ``[1, h, S, D]``."""
        end = view - self.shift - self.before
        both = self.keys[:end], self.values[:end]
        if self.packed is not None:
            pairs = zip(self.packed, both, strict=True)
            both = tuple(torch.cat([old.states(), new]) for old, new in pairs)  # type: ignore[assignment]
        return both[0].transpose(0, 1)[None], both[1].transpose(0, 1)[None]

    def move(self, places: Tensor, room: int, packing: tuple[str, int] | None) -> None:
        """Keep these places, first of all, and nothing else.

        Args:
            places: int64 ``[k, h]``, ascending; where some are packed, the same for all heads.
            room: how many more there are to be.
            packing: how, and but how many of the last, are packed.
        """
        count, heads = places.shape
        each, before = torch.arange(heads, device=places.device), self.before
        packed = int((places[:, 0] < before).sum()) if before else 0
        rest = places[packed:] - before
        both = self.keys[rest, each], self.values[rest, each]
        if self.packed is not None:
            older = places[:packed, 0]
            self.packed = self.packed[0].at(older), self.packed[1].at(older)
        if packing is not None:
            kind, recent = packing
            more = max(0, count - recent - packed)
            if more:
                fresh = Packed.of(both[0][:more], kind), Packed.of(both[1][:more], kind)
                old = self.packed
                self.packed = (
                    fresh if old is None else (old[0].then(fresh[0]), old[1].then(fresh[1]))
                )
                both = both[0][more:], both[1][more:]
        left = len(both[0])
        if self.keys.shape[0] != left + room:
            self.keys, self.values = (
                states.new_zeros(left + room, *states.shape[1:]) for states in both
            )
        self.keys[:left], self.values[:left] = both

    def all_keys(self, count: int) -> Tensor:
        """Return the keys of the first places, ``[count, h, D]``."""
        keys = self.keys[: count - self.before]
        return keys if self.packed is None else torch.cat([self.packed[0].states(), keys])

    def put_keys(self, keys: Tensor, kind: str | None) -> None:
        """Write the keys of the first places, ``[count, h, D]``; those that are packed anew."""
        before = self.before
        self.keys[: len(keys) - before] = keys[before:]
        if self.packed is not None and kind is not None:
            self.packed = Packed.of(keys[:before], kind), self.packed[1]

    def resized(self, size: int, kept: int) -> Part:
        """Return the same with other room, its first ``kept`` places as they were."""
        size, kept = size - self.before, kept - self.before
        keys, values = (old.new_zeros(size, *old.shape[1:]) for old in (self.keys, self.values))
        keys[:kept], values[:kept] = self.keys[:kept], self.values[:kept]
        return Part(self.heads, keys, values, self.shift, self.packed)

    @property
    def nbytes(self) -> int:
        """Bytes of the storages."""
        packed = sum(one.nbytes for one in self.packed or ())
        whole = self.keys.untyped_storage().nbytes() + self.values.untyped_storage().nbytes()
        return int(whole) + packed


@dataclass(frozen=True, slots=True)
class Grouped:
    """Keys or values of a layer whose heads hold different numbers of tokens.

    Attributes:
        heads: int64 ``[h]``, the key heads of each group.
        parts: ``[1, h, S, D]`` of each group.
    """

    heads: Sequence[Tensor]
    parts: Sequence[Tensor]


@dataclass(slots=True)
class _Aim:
    """Where the next forward writes and how far it reads; shared by a cache and its layers.

    So the layers need not know the cache, and its memory is free as soon as it is.
    """

    capacity: int
    view: int
    slots: Tensor


class _SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, ``[S, H_kv, D]``: a slot's heads lie together.

    So the first slots are one piece of memory, whatever the capacity, and a compiled or captured
    forward over them does not depend on it.
    """

    is_sliding = False

    def __init__(self, aim: _Aim) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._aim = aim
        self.parts: list[Part] = []
        """Where a policy has forgotten something of some heads; then there are no keys here."""

    def hold(self, keys: Tensor, values: Tensor) -> None:
        """Use these tensors from now on."""
        self.keys, self.values = keys, values
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        # Zeroed, not empty: a NaN behind a mask poisons the attention's weighted sum.
        slots = self._aim.capacity
        keys, values = (
            states.new_zeros(slots, states.shape[1], states.shape[3])
            for states in (key_states, value_states)
        )
        self.hold(keys, values)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if self.parts:
            return self._update_parts(key_states, value_states)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        slots, view = self._aim.slots, self._aim.view
        self.keys.index_copy_(0, slots, key_states[0].transpose(0, 1))
        self.values.index_copy_(0, slots, value_states[0].transpose(0, 1))
        return self.keys[:view].transpose(0, 1)[None], self.values[:view].transpose(0, 1)[None]

    def _update_parts(self, key_states: Tensor, value_states: Tensor) -> tuple[Any, Any]:
        slots, view = self._aim.slots, self._aim.view
        fresh = key_states[0].transpose(0, 1), value_states[0].transpose(0, 1)
        for part in self.parts:
            part.write(slots, *fresh)
        both = [part.read(view) for part in self.parts]
        if len(both) == 1:
            return both[0]
        heads = [part.heads for part in self.parts if part.heads is not None]
        keys, values = zip(*both, strict=True)
        return Grouped(heads, keys), Grouped(heads, values)

    def split(self, groups: Sequence[Sequence[int]]) -> None:
        """Let groups of key heads hold tokens of their own from now on."""
        assert self.keys is not None
        assert self.values is not None
        if len(groups) == 1:
            self.parts = [Part(None, self.keys, self.values)]
        else:
            for group in groups:
                heads = torch.tensor(group, device=self.keys.device)
                self.parts.append(Part(heads, self.keys[:, heads], self.values[:, heads]))
        self.keys = self.values = None

    def copy(self, other: _SlotLayer, source: Tensor, slots: Tensor) -> None:
        """Copy tokens of a layer of the same sizes, see :meth:`SlotCache.copy`."""
        assert other.keys is not None
        assert other.values is not None
        if not self.parts and self.keys is None:
            capacity = self._aim.capacity
            self.hold(
                other.keys.new_zeros(capacity, *other.keys.shape[1:]),
                other.values.new_zeros(capacity, *other.values.shape[1:]),
            )
        keys, values = other.keys[source], other.values[source]
        for part in self.parts:
            part.write(slots, keys, values)
        if not self.parts:
            assert self.keys is not None
            assert self.values is not None
            self.keys.index_copy_(0, slots, keys)
            self.values.index_copy_(0, slots, values)

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` slots and keep what is there."""
        self.parts = [
            part.resized(capacity - part.shift, part.keys.shape[0] + part.before)
            for part in self.parts
        ]
        if self.keys is None or self.values is None:
            return
        kept = self.keys.shape[0]
        keys, values = (old.new_zeros(capacity, *old.shape[1:]) for old in (self.keys, self.values))
        keys[:kept], values[:kept] = self.keys, self.values
        self.hold(keys, values)

    def adopt(self, other: _SlotLayer, slots: int) -> None:
        """Take over the first ``slots`` of a layer of the same sizes."""
        self.parts, self.is_initialized = [], self.keys is not None
        if other.parts:
            self.keys = self.values = None
            capacity = self._aim.capacity
            self.parts = [
                one.resized(capacity - one.shift, slots - one.shift) for one in other.parts
            ]
            self.is_initialized = True
            return
        if other.keys is None or other.values is None:
            return
        if self.keys is None or self.values is None:
            capacity = self._aim.capacity
            keys, values = (
                theirs.new_zeros(capacity, *theirs.shape[1:])
                for theirs in (other.keys, other.values)
            )
            self.hold(keys, values)
        assert self.keys is not None
        assert self.values is not None
        self.keys[:slots] = other.keys[:slots]
        self.values[:slots] = other.values[:slots]

    @property
    def shape(self) -> Shape:
        """Heads and width of keys and values."""
        assert self.keys is not None
        assert self.values is not None
        (_, heads, width), (_, *others) = self.keys.shape, self.values.shape
        return (heads, width), (others[0], others[1])

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._aim.view, 0

    def get_seq_length(self) -> int:
        # Models ask for it to guess positions; ours are always given.
        return self._aim.view

    def get_max_length(self) -> int:
        return self._aim.capacity

    @property
    def nbytes(self) -> int:
        if self.keys is None or self.values is None:
            return sum(part.nbytes for part in self.parts)
        return int(self.keys.untyped_storage().nbytes() + self.values.untyped_storage().nbytes())


class SlotCache(Cache):
    """The KV cache of one sequence, addressed by slot.

    Rejecting a token is writing its slot again; accepting a path moves nothing. Which slot
    belongs to which token is bookkeeping of :mod:`outpace.cache`; here are only the tensors.

    Args:
        layers: how many layers the model has.
        capacity: how many slots to hold at first.

    Attributes:
        pooled: whether its tensors go to another cache once it is gone.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        self._aim = _Aim(capacity, capacity, torch.zeros(0, dtype=torch.int64))
        self._slot_layers = [_SlotLayer(self._aim) for _ in range(layers)]
        self._seen: tuple[int, list[Tensor], list[Tensor]] | None = None
        self._pointers: tuple[int, ...] = ()
        self.pooled = False
        super().__init__(layers=list(self._slot_layers))

    @classmethod
    def over(cls, keys: Sequence[Tensor], values: Sequence[Tensor], slots: Tensor) -> SlotCache:
        """Return a cache of given tensors, ``[S, H_kv, D]`` a layer, aimed at ``slots [W]``."""
        cache = cls(len(keys), keys[0].shape[0])
        cache.hold(keys, values)
        return cache.at(slots, cache.capacity)

    def at(self, slots: Tensor, view: int) -> SlotCache:
        """Aim the next forward: write at ``slots [W]``, read the slots below ``view``."""
        self._aim.slots, self._aim.view = slots, view
        return self

    @property
    def capacity(self) -> int:
        """How many slots there are."""
        return self._aim.capacity

    @property
    def is_uneven(self) -> bool:
        """Whether layers or heads hold tokens of their own, so that no common view is right."""
        return any(layer.parts for layer in self._slot_layers)

    def layer(self, number: int) -> _SlotLayer:
        """Return a layer, for what changes it between forwards."""
        self._seen, self._pointers = None, ()
        return self._slot_layers[number]

    def resize(self, capacity: int) -> None:
        """Say how many slots there are from now on, where parts are sized one by one."""
        self._seen, self._pointers, self.pooled = None, (), False
        self._aim.capacity = capacity

    def hold(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Use these tensors, ``[capacity, H_kv, D]`` a layer."""
        self._seen, self._pointers = None, ()
        for layer, *given in zip(self._slot_layers, keys, values, strict=True):
            layer.hold(*given)

    @property
    def tensors(self) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of all layers, whole; after the first forward."""
        return self.seen(self.capacity)

    @property
    def pointers(self) -> tuple[int, ...]:
        """Where keys and values lie in memory; after the first forward."""
        if not self._pointers:
            keys, values = self.tensors
            self._pointers = tuple(t.data_ptr() for t in (*keys, *values))
        return self._pointers

    def allocate(self, shapes: Sequence[Shape], like: Tensor) -> None:
        """Make the tensors of all layers as the first forward would; ``like`` has their dtype."""
        for layer, sizes in zip(self._slot_layers, shapes, strict=True):
            if not layer.is_initialized:
                layer.hold(*(like.new_zeros(self.capacity, *size) for size in sizes))

    @property
    def allocated(self) -> bool:
        """Whether the tensors are there: from the first forward on."""
        return self._slot_layers[0].is_initialized

    @property
    def shapes(self) -> list[Shape]:
        """Of each layer; known after the first forward."""
        return [layer.shape for layer in self._slot_layers]

    def seen(self, view: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return keys and values below ``view``, ``[view, H_kv, D]`` a layer, without a copy."""
        if self._seen is None or self._seen[0] != view:
            both = [(layer.keys, layer.values) for layer in self._slot_layers]
            keys, values = (
                [t[:view] for t in each if t is not None] for each in zip(*both, strict=True)
            )
            self._seen = view, keys, values
        return self._seen[1], self._seen[2]

    def grow(self, capacity: int) -> None:
        """Hold at least ``capacity`` slots."""
        if capacity > self.capacity:
            self._seen, self._pointers, self.pooled = None, (), False
            for layer in self._slot_layers:
                layer.grow(capacity)
            self._aim.capacity = capacity

    def copy(self, other: SlotCache, source: Tensor, slots: Tensor) -> None:
        """Copy tokens of a cache whose layers have the same sizes.

        Args:
            other: whose layers all hold the same tokens.
            source: int64 ``[n]``, their slots there.
            slots: int64 ``[n]``, where they are to lie.
        """
        self._seen, self._pointers = None, ()
        for mine, theirs in zip(self._slot_layers, other._slot_layers, strict=False):
            mine.copy(theirs, source, slots)

    def adopt(self, other: SlotCache, slots: int) -> None:
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
