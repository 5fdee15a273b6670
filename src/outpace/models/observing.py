"""Attention weights handed to whoever asks, while forwards run as they do.

::

    def shares(layer: int, weights: Tensor) -> None:
        print(layer, weights[..., :4].sum(-1).mean(-1))  # of each head, on the first four slots
    with observed(shares):
        session.append(tokens)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

Observer = Callable[[int, Tensor], None]
"""Told of each layer of a forward: its number, and its attention weights.

The weights are float32 ``[H, W, S]``: query heads in the model's order, the rows of the forward in
theirs (no padded ones), and the slots that are read, of which those that a row does not see have
weight 0. They are after the softmax; where a model has a sink score (``s_aux``, gpt-oss) its share
is left out, so that rows sum to less than 1. The tensor is the observer's to keep.
"""

_OBSERVER: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Show the attention weights of every forward of this thread to ``observer``.

    Meanwhile models run eagerly, at the width they are asked for, whatever their runtime is: what
    is compiled or captured has no place to look at. What a forward returns is as before, up to the
    rounding in which runtimes differ. Weights are computed beside the attention itself, which
    costs ``4·H·W·S`` bytes at a time: cut a long text into chunks of rows.

    Within another one the inner observer alone is told.
    """
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


def observer() -> Observer | None:
    """Return who observes now; nobody sees what is being compiled."""
    return None if torch.compiler.is_compiling() else _OBSERVER.get()
