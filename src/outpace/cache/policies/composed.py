"""Several policies, each at its own boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from .base import CachePolicy, Held
from .checks import need


@dataclass(frozen=True)
class ComposedPolicy(CachePolicy):
    """At a boundary of several policies each keeps of what those before it left.

    Args:
        parts: the policies, in that order.

    Raises:
        InvalidArgument: none, or two that add up attention in different ways.
    """

    parts: Sequence[CachePolicy]

    def __post_init__(self) -> None:
        need(bool(self.parts), "composed: no policies: give two or more")
        # as they are read from the text: one row, of whatever it was made
        whole = (one.parts if isinstance(one, ComposedPolicy) else (one,) for one in self.parts)
        object.__setattr__(self, "parts", tuple(chain.from_iterable(whole)))
        need(
            self.packing is None or self._packs_evenly(),
            f"{self}: what is packed is packed for all heads alike: compose it with streaming or "
            "recent",
        )
        watching = {one.observes for one in self.parts} - {0}
        need(
            len(watching) <= 1,
            f"{self}: two of them add up attention in different ways: give one of them",
        )

    @property
    def uniform(self) -> bool:  # type: ignore[override]
        """Whether all are."""
        return all(one.uniform for one in self.parts)

    @property
    def observes(self) -> int | None:  # type: ignore[override]
        """What the one that watches wants."""
        return next((one.observes for one in self.parts if one.observes != 0), 0)

    @property
    def always(self) -> int:
        """The most of any."""
        return max(one.always for one in self.parts)

    @property
    def packing(self) -> tuple[str, int] | None:
        """What the one that packs says."""
        return next((one.packing for one in self.parts if one.packing is not None), None)

    @property
    def size(self) -> int | None:
        """The least of those that have one."""
        return min((one.size for one in self.parts if one.size is not None), default=None)

    @property
    def block(self) -> int:
        """The longest of those that forget anything."""
        return max(one.block for one in self.parts)

    def _packs_evenly(self) -> bool:
        return all(one.uniform or one.packing is not None for one in self.parts)

    def due(self, length: int) -> int | None:
        """Return the first boundary of any of them."""
        found = [one.due(length) for one in self.parts]
        return min((one for one in found if one is not None), default=None)

    def kept(self, held: Held) -> Tensor | None:
        """Return what is left in the end."""
        kept: Tensor | None = None
        for one in self.parts:
            if one.due(held.length - 1) != held.length:
                continue
            chosen = one.kept(held if kept is None else _of(held, kept))
            if chosen is not None:
                kept = chosen if kept is None else _both(kept, chosen, len(held.heads))
        return kept

    def groups(self, layer: int, heads: int) -> Sequence[Sequence[int]]:
        """Return those of the one that has any."""
        found = [one.groups(layer, heads) for one in self.parts]
        return max(found, key=len)

    def check(self, layers: int, heads: int) -> None:
        """Check all."""
        for one in self.parts:
            one.check(layers, heads)

    def __str__(self) -> str:
        return " + ".join(str(one) for one in self.parts)


def _wide(places: Tensor, heads: int) -> Tensor:
    return places[:, None].expand(-1, heads) if places.dim() == 1 else places


def _both(first: Tensor, then: Tensor, heads: int) -> Tensor:
    """Return the places that are kept of those kept before."""
    if first.dim() == then.dim() == 1:
        return first[then]
    return torch.gather(_wide(first, heads), 0, _wide(then, heads))


def _of(held: Held, kept: Tensor) -> Held:
    """Return what is held after some of it is gone."""
    places = _wide(kept, len(held.heads))

    def keys() -> Tensor:
        whole = held.keys
        return torch.gather(whole, 0, places[:, :, None].expand(-1, -1, whole.shape[2]))

    seen = None if held.attention is None else torch.gather(held.attention, 0, places)
    indices = torch.gather(held.indices, 0, places)
    return Held(held.layer, held.layers, held.heads, held.length, indices, keys, seen)
