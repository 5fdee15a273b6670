"""Keys or values in few bits: what they are packed to, and what they are taken for again."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor

BITS = {"int8": 8, "int4": 4}
GROUP = 32
"""Numbers of a head that share a scale in int4, at most; in int8 all of a head do."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Tokens ``[n, h, D]`` in few bits, each on its own, so that taking some away changes no other.

    int8 is symmetric, one scale a token and head; int4 has a scale and a least value for each 32
    numbers of a head, two numbers in a byte (in the manner of arXiv 2402.02750, but by token, so
    that a token can be added or taken away alone).

    Attributes:
        codes: int8 ``[n, h, D]``, or uint8 ``[n, h, D/2]``.
        scale: float16 ``[n, h, G]``.
        least: float16 ``[n, h, G]``; None in int8.
        dtype: of what it is taken for.
    """

    codes: Tensor
    scale: Tensor
    least: Tensor | None
    dtype: torch.dtype

    @classmethod
    def of(cls, states: Tensor, kind: str) -> Packed:
        """Pack ``[n, h, D]`` as ``int8`` or ``int4``."""
        values = states.to(torch.float32)
        if kind == "int8":
            scale = (values.abs().amax(-1, keepdim=True) / 127).clamp(min=_TINY)
            codes = (values / scale).round().to(torch.int8)
            return cls(codes, scale.to(torch.float16), None, states.dtype)
        grouped = _grouped(values)
        least = grouped.amin(-1, keepdim=True)
        scale = ((grouped.amax(-1, keepdim=True) - least) / 15).clamp(min=_TINY)
        scale, least = scale.to(torch.float16), least.to(torch.float16)
        codes = ((grouped - least.float()) / scale.float()).round().clamp(0, 15).to(torch.uint8)
        flat = codes.flatten(-2)
        packed = flat[..., ::2] | (flat[..., 1::2] << 4)
        return cls(packed, scale[..., 0], least[..., 0], states.dtype)

    def states(self) -> Tensor:
        """Return what it is taken for, ``[n, h, D]``."""
        if self.least is None:
            return (self.codes.to(torch.float32) * self.scale.float()).to(self.dtype)
        both = torch.stack([self.codes & 15, self.codes >> 4], dim=-1).flatten(-2)
        grouped = both.unflatten(-1, (self.scale.shape[-1], -1)).to(torch.float32)
        values = grouped * self.scale.float()[..., None] + self.least.float()[..., None]
        states: Tensor = values.flatten(-2).to(self.dtype)
        return states

    def at(self, places: Tensor) -> Packed:
        """Return some of the tokens, int64 ``[k]``, as they are."""
        least = None if self.least is None else self.least[places]
        return Packed(self.codes[places], self.scale[places], least, self.dtype)

    def then(self, later: Packed) -> Packed:
        """Return the tokens of both, these first."""
        least = None
        if self.least is not None and later.least is not None:
            least = torch.cat([self.least, later.least])
        codes, scale = torch.cat([self.codes, later.codes]), torch.cat([self.scale, later.scale])
        return Packed(codes, scale, least, self.dtype)

    def __len__(self) -> int:
        return self.codes.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of its storages."""
        parts = [self.codes, self.scale, *([] if self.least is None else [self.least])]
        return sum(int(part.untyped_storage().nbytes()) for part in parts)


_TINY = 6e-8
"""The least number of float16 above 0."""


def _grouped(values: Tensor) -> Tensor:
    """Return ``[n, h, G, 32]``; fewer in a group where 32 does not divide the width."""
    grouped: Tensor = values.unflatten(-1, (-1, gcd(values.shape[-1], GROUP)))
    return grouped
