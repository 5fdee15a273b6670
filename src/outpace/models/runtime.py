"""How a forward is run: eagerly, from captured graphs, or compiled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..sampling import Pick
from .kv import SlotCache
from .linears import PackedLinears
from .step import Step

WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 512, 2048)
"""Static widths of a forward: rows are padded up to one of them."""

RUNTIMES = ("auto", "eager", "graph", "compile")
"""Names a runtime can be asked for by."""


@dataclass(slots=True)
class Inputs:
    """What one forward is given.

    Attributes:
        tokens: ``[N]`` int64.
        where: ``[2, M]`` int64, positions and slots of M >= N nodes, these N the last.
        ancestors: bool ``[N, M]``.
        held: ``[>= view]`` int64, the position of the committed token in each slot or -1.
        cache: the keys and values.
        view: how many slots are read; the last of them is nobody's where rows are padded.
        last_only: whether the logits of the last row alone are wanted.
    """

    tokens: Tensor
    where: Tensor
    ancestors: Tensor
    held: Tensor
    cache: SlotCache
    view: int
    last_only: bool = False

    def padded(self, width: int) -> Inputs:
        """Return the same with rows up to ``width``: like the first row, and read by nobody."""
        count = self.tokens.shape[0]
        more = width - count
        if not more:
            return self
        row = self.where[:, -count : self.where.shape[1] - count + 1]
        spare = torch.stack([row[0], torch.full_like(row[1], self.view - 1)])
        ancestors = torch.cat([self.ancestors, self.ancestors[:1].expand(more, -1)])
        return Inputs(
            torch.cat([self.tokens, self.tokens[:1].expand(more)]),
            torch.cat([self.where, spare.expand(2, more)], dim=1),
            torch.nn.functional.pad(ancestors, (0, more)),
            self.held,
            self.cache,
            self.view,
            self.last_only,
        )


class Runtime(ABC):
    """Runs forwards of one model.

    Attributes:
        name: ``eager``, ``graph`` or ``compile``.
        traced: whether the attention of the stock model, as it is set now, has no part in it.
        widths: those of a round's forwards that differ in cost.
        chunks: widths a long prefill is cut into, the widest first; what is left over is one more
            forward. The same for plain and speculative runs.
    """

    name: str
    traced: bool = False
    chunks: tuple[int, ...] = (2048, 512, 128)
    widths: tuple[int, ...] = tuple(width for width in WIDTHS if width <= 64)

    @abstractmethod
    def run(self, given: Inputs) -> Tensor:
        """Run one forward; return logits ``[N, V]`` or ``[1, V]``, the caller's to keep."""

    def chain(self, first: Inputs, where: Tensor, length: int, pick: Pick) -> Tensor | None:
        """Run a forward and go on over tokens of its own choice, all in one unit.

        Args:
            first: the first forward, of which the last logits alone are wanted.
            where: ``[2, N + length - 1]``, positions and slots of its tokens and of those after.
            length: how many tokens to choose; the last one is not run.
            pick: how to choose.

        Returns:
            The tokens chosen, ``[length]`` int64; None where there is no such unit.
        """
        return None


class EagerRuntime(Runtime):
    """The stock model itself, at static widths.

    Args:
        step: the model.
        bitwise: one width for all forwards that fit it, so that a row's last bits do not depend
            on how many others there are; 0 for the least width that fits.
        packed: whether the weights stay as they are, so that they may be packed once.
        padded: whether rows are padded at all; an observer of attention is shown all rows.
    """

    name = "eager"

    def __init__(
        self, step: Step, bitwise: int = 0, *, packed: bool = False, padded: bool = True
    ) -> None:
        self._step = step
        self._padded = padded
        self._bitwise = bitwise
        on_cpu = step.model.device.type == "cpu"
        self._linears = PackedLinears(step.model) if packed and on_cpu else None

    def run(self, given: Inputs) -> Tensor:
        """See the base class."""
        count = given.tokens.shape[0]
        if self._padded:
            given = given.padded(width_for(max(count, self._bitwise)))
        width = given.tokens.shape[0]
        linears = nullcontext() if self._linears is None else self._linears.used()
        with torch.inference_mode(), linears:
            keep = torch.tensor([count - 1]).to(given.tokens.device) if given.last_only else 0
            own = given.where[:, -width:]
            logits = self._step.run(
                given.tokens,
                given.where,
                given.ancestors,
                keep,
                given.held[: given.view],
                given.cache.at(own[1], given.view),
                own[0],
            )
        # Outside of inference mode a copy is a tensor like any: processors may write into it.
        return (logits if given.last_only else logits[:count]).clone()


@lru_cache(maxsize=256)
def rows_kept(count: int, last_only: bool, device: torch.device) -> Tensor:
    """Return the numbers of the rows whose logits are wanted."""
    first = count - 1 if last_only else 0
    return torch.arange(first, count, device=device)


@lru_cache(maxsize=256)
def everything(nodes: int, device: torch.device) -> Tensor:
    """Return bool ``[1, nodes]``: a row that sees all of them."""
    return torch.ones(1, nodes, dtype=torch.bool, device=device)


def width_for(count: int) -> int:
    """Return the static width that holds ``count`` rows."""
    for width in WIDTHS:
        if count <= width:
            return width
    raise AssertionError(f"{count} rows in one forward: cut them into chunks first")
