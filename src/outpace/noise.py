"""Counter-based noise: a pure function of seed, stream, place in the text and token."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache

import torch
from torch import Tensor

_MASK64 = (1 << 64) - 1
# Odd constants, far apart in their bits: the golden ratio's (Weyl step) and one for streams.
_G = 0x9E3779B97F4A7C15
_D = 0xD1342543DE82EF95
# Multipliers of splitmix64's finaliser.
_M1 = 0xBF58476D1CE4E5B9
_M2 = 0x94D049BB133111EB


class Stream(IntEnum):
    """What a piece of noise is for. One noise never serves two purposes: that biases the law."""

    COUPLED = 0
    ACCEPT = 1
    RESIDUAL = 2
    DRAFT = 3  # see draft_stream


SIBLINGS = 64
"""More than a node has children: a round drafts fewer tokens."""


def draft_stream(depth: int, index: int = 0) -> int:
    """Return the stream of the ``index``-th independent draft below a node ``depth`` levels down.

    Its noise is taken at the ``t`` where the round starts, not where the draft token would stand: a
    place can be drafted again in the next round, and by then its first draft may have had a say,
    in block verification or through a draft length that follows how the rounds went.
    """
    return Stream.DRAFT + depth * SIBLINGS + index


def _signed(value: int) -> int:
    """Return a 64-bit pattern as the int64 that has it."""
    return value - (1 << 64) if value >> 63 else value


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * _M1) & _MASK64
    x = ((x ^ (x >> 27)) * _M2) & _MASK64
    return x ^ (x >> 31)


def noise_key(seed: int, stream: int, t: int) -> int:
    """Return the 64-bit key of the noise row for sequence index ``t``."""
    # The finaliser maps 0 to 0, so the stream counts from one: seed 0 at t = 0 is a row like any.
    return _mix(((t * _G) & _MASK64) ^ _mix((seed * _G + (stream + 1) * _D) & _MASK64))


@lru_cache(maxsize=16)
def _counters(size: int, device: torch.device) -> Tensor:
    """``[size]`` int64: v·G, wrapped."""
    return torch.arange(size, device=device) * _signed(_G)


def _logical_shift(x: Tensor, bits: int) -> Tensor:
    # torch shifts arithmetically: mask the copies of the sign bit away
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def hash_rows(keys: Tensor, size: int) -> Tensor:
    """Return ``[N, size]`` int64 in [0, 2³²): 32 hashed bits per key ``[N]`` and counter."""
    x = keys[:, None] + _counters(size, keys.device)[None, :]
    x = (x ^ _logical_shift(x, 30)).mul_(_signed(_M1))
    x = (x ^ _logical_shift(x, 27)).mul_(_signed(_M2))
    x = x ^ _logical_shift(x, 31)
    return _logical_shift(x, 32)


class Noise:
    """Counter-based noise: every value is a pure function of (seed, stream, t, v)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def gumbel(self, ts: Sequence[int], size: int, device: torch.device, stream: int) -> Tensor:
        """Return float32 ``[len(ts), size]`` Gumbel noise for the sequence indices ``ts``."""
        keys = [_signed(noise_key(self.seed, stream, t)) for t in ts]
        bits = hash_rows(torch.tensor(keys, dtype=torch.int64, device=device), size)
        # 32 bits, centred, in float64: log1p keeps the tail that 24-bit uniforms cut off, and
        # neither logarithm can meet 0.
        uniform = bits.to(torch.float64).add_(0.5).mul_(2.0**-32)
        exponential = uniform.neg_().log1p_().neg_()
        return exponential.log_().neg_().to(torch.float32)

    def uniform(self, t: int, index: int, stream: int) -> float:
        """Return one number in (0, 1)."""
        bits = _mix((noise_key(self.seed, stream, t) + index * _G) & _MASK64) >> 32
        return (bits + 0.5) * 2.0**-32

    def accept(self, probability: float, t: int, index: int = 0) -> bool:
        """Return True with this probability; no test of a text shares both ``t`` and ``index``."""
        return self.uniform(t, index, Stream.ACCEPT) < probability

    def draw(self, probabilities: Tensor, t: int) -> int:
        """Draw from ``[V]`` (need not sum to one): the token after the last accepted draft."""
        noise = self.gumbel([t], probabilities.shape[-1], probabilities.device, Stream.RESIDUAL)
        return int(torch.argmax(probabilities.log() + noise[0]))
