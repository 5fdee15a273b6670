"""Linear layers in the layout that the vendor's library multiplies by: eager forwards on a CPU.

For a layer as it comes out of a file the library unpicks the weights anew at every call, which for
few rows takes as long as the product. Packed once, an eager bfloat16 forward of one row takes about
half the time, to the last bit with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeGuard
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

SHARE = 0.5
"""Of the memory that is available, how much packed weights may take; else they stay as they are."""

_known: WeakValueDictionary[tuple[int, torch.Size], Tensor] = WeakValueDictionary()


class PackedLinears:
    """The linear layers of a model whose weights no longer change, packed at the first use.

    Only layers in bfloat16 are packed, where the processor has instructions for it. Models that
    share layers share what is packed.

    Args:
        model: on a CPU; it is as before outside of :meth:`used`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._calls: list[tuple[nn.Linear, Callable[[Tensor], Tensor]]] | None = None

    @contextmanager
    def used(self) -> Iterator[None]:
        """Have the model's layers multiply by packed weights."""
        if self._calls is None:
            self._calls = self._packed()
        for layer, call in self._calls:
            layer.__dict__["forward"] = call
        try:
            yield
        finally:
            for layer, _ in self._calls:
                layer.__dict__.pop("forward", None)

    def _packed(self) -> list[tuple[nn.Linear, Callable[[Tensor], Tensor]]]:
        layers: list[nn.Linear] = [one for one in self._model.modules() if _packable(one)]
        nbytes = sum(layer.weight.nbytes for layer in layers)
        if not layers or not _supported() or nbytes > SHARE * available_memory():
            return []
        return [(layer, partial(_product, _pack(layer.weight), layer.bias)) for layer in layers]


def available_memory() -> float:
    """Return how many bytes could be taken now without swapping; infinite where nobody says."""
    with suppress(OSError, StopIteration, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        return 1024.0 * int(line.split()[1])
    return float("inf")


def _packable(layer: nn.Module) -> TypeGuard[nn.Linear]:
    return (
        type(layer) is nn.Linear  # what is derived from it may do more
        and type(layer.weight) is nn.Parameter  # one that is quantised says bfloat16, too
        and layer.weight.dtype == torch.bfloat16
        and layer.weight.device.type == "cpu"
        and "forward" not in layer.__dict__  # somebody else's
    )


def _supported() -> bool:
    ops = torch.ops.mkldnn
    names = ("_is_mkldnn_bf16_supported", "_reorder_linear_weight", "_linear_pointwise")
    return all(hasattr(ops, name) for name in names) and bool(ops._is_mkldnn_bf16_supported())


def _pack(weight: Tensor) -> Tensor:
    key = weight.data_ptr(), weight.shape
    packed = _known.get(key)
    if packed is None:
        packed = _known[key] = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1)
    return packed


def _product(weight: Tensor, bias: Tensor | None, rows: Tensor) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return out
