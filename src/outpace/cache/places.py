"""What layers and heads hold where each forgets tokens of its own."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..models import LanguageModel
from ..models.kv import Part, SlotCache
from ..models.rotary import Rotation
from .policies import CachePolicy, Held
from .slots import SPARE, Slots


@dataclass(slots=True)
class _Group:
    """Key heads of a layer that hold equally many tokens.

    Attributes:
        layer: its number.
        number: which of the layer's groups.
        heads: which heads.
        indices: ``[n, h]`` int64, the tokens each holds since the last boundary; those after it
            all heads hold.
        positions: ``[n, h]`` int64, the positions their keys have been turned to.
        attention: ``[m, h]`` float32, added up for all that is held, m >= n; None if not asked for.
    """

    layer: int
    number: int
    heads: tuple[int, ...]
    indices: Tensor
    positions: Tensor
    attention: Tensor | None = None

    def part(self, cache: SlotCache) -> Part:
        """Return where its keys and values are."""
        return cache.layer(self.layer).parts[self.number]


class Places:
    """The groups of all layers.

    At a boundary what a group keeps moves to its first places, so that its memory shrinks; then
    those that hold fewer tokens than the longest leave out as many slots of the text before the
    ones they all share.

    Args:
        policy: says what is kept.
        model: whose keys and values they are.
    """

    def __init__(self, policy: CachePolicy, model: LanguageModel) -> None:
        self._policy, self._model = policy, model
        self._groups: list[_Group] = []
        self._own = 0  # so many slots are each group's own; those after them all have

    def copy(self, model: LanguageModel) -> Places:
        """Return the same, to go on with apart, of a model of these layers or the first ones."""
        twin = copy(self)
        twin._model = model
        twin._groups = [replace(group) for group in self._groups if group.layer < model.layers]
        return twin

    def observe(
        self, seen: Sequence[Tensor], rows: Sequence[int], slots: Slots, cache: SlotCache
    ) -> None:
        """Add up attention, see :meth:`Forgetting.observe`."""
        self._begin(cache)
        for group in self._groups:
            places = self._where(group, slots, cache)
            before = group.attention
            total = torch.zeros(len(places), len(group.heads), device=places.device)
            if before is not None:
                kept = min(len(before), len(total))  # draft tokens that were given up are gone
                total[:kept] = before[:kept]
            if rows:
                weights = seen[group.layer][:, list(rows)].sum(dim=1)  # [H, S]
                each = weights.reshape(len(group.heads), -1, weights.shape[-1]).mean(dim=1)
                total += each[:, places].T
            group.attention = total

    def forget(self, length: int, slots: Slots, held: Tensor, cache: SlotCache) -> float:
        """Forget what is not kept, see :meth:`Forgetting.forget`; return how many tokens a head."""
        self._begin(cache)
        moves: list[tuple[_Group, Tensor]] = []
        gone = heads = 0
        for group in self._groups:
            places = self._where(group, slots, cache)
            self._take_in(group, slots)
            count = len(places)
            kept = self._kept(group, length, places, cache)
            moves.append((group, places[kept]))
            heads += len(group.heads)
            gone += (count - len(kept)) * len(group.heads)
        self._own = max(len(group.indices) for group in self._groups)
        capacity = self._own + self._policy.block + SPARE + 1
        for group, places in moves:
            part = group.part(cache)
            part.move(places, capacity - self._own, self._policy.packing)
            part.shift = self._own - len(places)
        cache.resize(capacity)
        self._say(slots, held)
        return gone / heads

    def move_up(self, rotation: Rotation, cache: SlotCache) -> None:
        """Give what is held the first positions, the last token of each group the same one."""
        for group in self._groups:
            count, part = len(group.indices), group.part(cache)
            first = self._own - count
            now = torch.arange(first, self._own, device=group.positions.device)[:, None]
            by = now - group.positions
            packing = self._policy.packing
            turned = rotation.turn(group.layer, part.all_keys(count), by)
            part.put_keys(turned, None if packing is None else packing[0])
            group.positions = now.expand(-1, len(group.heads)).clone()

    def _begin(self, cache: SlotCache) -> None:
        """Let layers hold tokens of their own, once their sizes are known."""
        if self._groups:
            return
        for number in range(self._model.layers):
            layer = cache.layer(number)
            (heads, _), _ = layer.shape
            groups = self._policy.groups(number, heads)
            layer.split(groups)
            for place, own in enumerate(groups):
                none = torch.zeros(0, len(own), dtype=torch.int64, device=self._model.device)
                self._groups.append(_Group(number, place, tuple(own), none, none))

    def _where(self, group: _Group, slots: Slots, cache: SlotCache) -> Tensor:
        """Return the place ``[n]`` of each token a group holds, in order."""
        device, own = group.indices.device, len(group.indices)
        shared = torch.tensor(slots.slots[self._own :], dtype=torch.int64, device=device)
        return torch.cat([torch.arange(own, device=device), shared - group.part(cache).shift])

    def _take_in(self, group: _Group, slots: Slots) -> None:
        """Have a group know the tokens since the last boundary as its own."""
        wide = (-1, len(group.heads))
        for name, values in (("indices", slots.indices), ("positions", slots.positions)):
            old: Tensor = getattr(group, name)
            more = torch.tensor(values[self._own :], dtype=torch.int64, device=old.device)
            setattr(group, name, torch.cat([old, more[:, None].expand(*wide)]))

    def _kept(self, group: _Group, length: int, places: Tensor, cache: SlotCache) -> Tensor:
        """Return which of its tokens a group keeps, ``[k, h]``, and forget the others."""
        part, heads = group.part(cache), len(group.heads)
        kept = None
        if not _has_a_window(self._model, group.layer):
            kept = self._policy.kept(
                Held(
                    layer=group.layer,
                    layers=self._model.layers,
                    heads=group.heads,
                    length=length,
                    indices=group.indices,
                    read_keys=lambda: part.keys[places],
                    attention=group.attention,
                )
            )
        if kept is None:
            kept = torch.arange(len(places), device=places.device)
        if kept.dim() == 1:
            kept = kept[:, None].expand(-1, heads)
        group.indices = group.indices.gather(0, kept)
        group.positions = group.positions.gather(0, kept)
        if group.attention is not None:
            # of a window it is added up anew for the next boundary
            lasting = self._policy.observes is None
            group.attention = group.attention.gather(0, kept) * lasting
        return kept

    def _say(self, slots: Slots, held: Tensor) -> None:
        """Tell the session what the longest group holds: a layer with a window is one of those."""
        longest = next(group for group in self._groups if len(group.indices) == self._own)
        slots.restart(longest.indices[:, 0].tolist(), longest.positions[:, 0].tolist())
        held.fill_(-1)
        held[: self._own] = longest.positions[:, 0]


def _has_a_window(model: LanguageModel, layer: int) -> bool:
    """Return whether a layer looks back no further than a window, so that it is left alone."""
    kinds = getattr(model.config, "layer_types", None)
    if kinds is not None:
        return bool(kinds[layer] != "full_attention")
    return getattr(model.config, "sliding_window", None) is not None
