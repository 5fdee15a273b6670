"""CUDA graphs over a stock model: one for each width and bucket, captured when first needed."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sampling import Pick
from ..types import causal
from .kv import SlotCache
from .runtime import EagerRuntime, Inputs, Runtime, everything, rows_kept, width_for
from .step import Step

MOST = 64
"""Graphs that are kept; the one used longest ago goes first."""
WIDEST = 64
"""Rows of the widest forward that is captured; wider ones are parts of a prompt."""
LONGEST_START = 2
"""Tokens a captured chain starts with at most: what the target wrote beyond the draft."""

Function = Callable[..., Tensor]
Capture = Callable[[Function, list[Tensor]], "tuple[Callable[[], None], Tensor]"]
"""From a function and the tensors it is called with, to its replay and its output."""


@dataclass(frozen=True, slots=True)
class _Captured:
    """A graph, with the tensors it reads and the one it writes."""

    given: list[Tensor]
    replay: Callable[[], None]
    out: Tensor

    def run(self, *values: Tensor) -> Tensor:
        for static, value in zip(self.given, values, strict=True):
            static.copy_(value, non_blocking=True)
        self.replay()
        return self.out.clone()  # another graph of the pool may write over it


class GraphRuntime(Runtime):
    """Replays captured forwards and captured chains; what is too wide runs eagerly.

    A graph reads and writes memory at fixed places, so keys and values of texts that have ended
    are used again for the next ones.

    Args:
        step: the model, on a CUDA device.
        compiled: have Inductor compile what is captured.
        bitwise: one width for all forwards that fit it; 0 for the least that fits.
        capture: how to capture; another one where there is no such device.
    """

    def __init__(
        self,
        step: Step,
        *,
        compiled: bool = False,
        bitwise: int = 0,
        capture: Capture | None = None,
    ) -> None:
        self.name = "compile" if compiled else "graph"
        self._eager = EagerRuntime(step, bitwise)
        self._bitwise = bitwise
        self._step: Any = torch.compile(step, dynamic=False) if compiled else step
        self._capture = _Cuda() if capture is None else capture
        self._kept: OrderedDict[tuple[object, ...], _Captured] = OrderedDict()
        self._memory: dict[int, list[tuple[list[Tensor], list[Tensor]]]] = {}
        self.captures = 0

    def run(self, given: Inputs) -> Tensor:
        """See the base class."""
        count = given.tokens.shape[0]
        self._take_memory(given.cache)
        if count > WIDEST or not given.cache.allocated:
            return self._eager.run(given)
        before = given.where.shape[1] - count
        static = _widened(given, width_for(before) if before else 0)
        static = static.padded(width_for(max(count, self._bitwise)))
        keys, values = static.cache.seen(static.view)
        kept = rows_kept(count, given.last_only, given.tokens.device)

        def forward(tokens: Tensor, where: Tensor, seen: Tensor, held: Tensor) -> Tensor:
            width = tokens.shape[0]
            rows = rows_kept(width, False, tokens.device)
            out: Tensor = self._step(tokens, where, seen, rows, held, keys, values)
            return out

        shape = static.tokens.shape[0], static.where.shape[1]
        logits = self._replayed(
            ("forward", *shape, static.view, static.cache.pointers),
            forward,
            [static.tokens, static.where, static.ancestors, static.held[: static.view]],
        )
        return logits.index_select(0, kept)

    def chain(self, first: Inputs, where: Tensor, length: int, pick: Pick) -> Tensor | None:
        """See the base class."""
        count, view, cache = first.tokens.shape[0], first.view, first.cache
        self._take_memory(cache)
        if count > LONGEST_START or self._bitwise or not cache.allocated:
            return None
        keys, values = cache.seen(view)
        greedy, temperature = pick.noise is None, pick.temperature

        def unit(tokens: Tensor, where: Tensor, held: Tensor, *noise: Tensor) -> Tensor:
            choose = Pick(temperature, *noise)
            last = rows_kept(count, True, tokens.device)
            seen = causal(count, tokens.device)
            one = rows_kept(1, False, tokens.device)
            out = self._step(tokens, where[:, :count], seen, last, held, keys, values)
            chosen = [choose(out, 0)]
            for place in range(1, length):
                nodes = count + place
                seen = everything(nodes, tokens.device)
                out = self._step(chosen[-1], where[:, :nodes], seen, one, held, keys, values)
                chosen.append(choose(out, place))
            return torch.cat(chosen)

        return self._replayed(
            ("chain", count, length, view, greedy, temperature, cache.pointers),
            unit,
            [first.tokens, where, first.held[:view], *([] if greedy else [pick.noise])],
        )

    def _replayed(
        self, key: tuple[object, ...], function: Function, values: list[Tensor | None]
    ) -> Tensor:
        given = [value for value in values if value is not None]
        captured = self._kept.get(key)
        if captured is None:
            static = [value.clone() for value in given]
            captured = _Captured(static, *self._capture(function, static))
            self.captures += 1
            self._kept[key] = captured
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        with torch.inference_mode():
            return captured.run(*given)

    def _take_memory(self, cache: SlotCache) -> None:
        """Give a cache the tensors of one that has gone; take its own when it goes."""
        if cache.pooled:
            return
        free = self._memory.setdefault(cache.capacity, [])
        if not cache.allocated:
            if not free:
                return  # the first forward makes them
            cache.hold(*free.pop())
        cache.pooled = True
        weakref.finalize(cache, free.append, cache.tensors)


def _widened(given: Inputs, before: int) -> Inputs:
    """Return the same with so many earlier nodes; those that are none lie where nobody looks."""
    count, nodes = given.tokens.shape[0], given.where.shape[1]
    more = before + count - nodes
    if not more:
        return given
    spare = given.where.new_tensor([[0], [given.view - 1]]).expand(2, more)
    return Inputs(
        given.tokens,
        torch.cat([spare, given.where], dim=1),
        F.pad(given.ancestors, (more, 0)),
        given.held,
        given.cache,
        given.view,
        given.last_only,
    )


class _Cuda:
    """Captures CUDA graphs into one pool of memory."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(
        self, function: Function, given: list[Tensor]
    ) -> tuple[Callable[[], None], Tensor]:
        device = given[0].device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.inference_mode(), torch.cuda.stream(side):
            for _ in range(3):  # libraries set themselves up, and compilers compile
                function(*given)
        torch.cuda.current_stream(device).wait_stream(side)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph, pool=self._pool):
            out = function(*given)
        return graph.replay, out
