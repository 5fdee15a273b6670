"""How many bytes weights take: those of the storages behind them, each once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn


def footprint(model: nn.Module) -> int:
    """Return the bytes of all weights of a model and of its packed layers.

    A storage that several share counts once; one that a library keeps out of torch's sight is as
    large as the layer says that holds it.
    """
    packed = [layer for layer in model.modules() if hasattr(layer, "packed_bytes")]
    own = {id(tensor) for layer in packed for tensor in layer.buffers(recurse=False)}
    seen = (tensor for tensor in weights(model) if id(tensor) not in own)
    sizes: int = sum(layer.packed_bytes for layer in packed)  # type: ignore[misc]
    return sizes + nbytes(one for tensor in seen for one in held_by(tensor))


def weights(model: nn.Module) -> Iterator[Tensor]:
    """Yield what a checkpoint has: parameters, and buffers but those that are computed anew."""
    yield from model.parameters()
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                yield buffer
        # where bitsandbytes puts its int8 and the scales at the first forward
        yield from _int8(getattr(module, "state", None))


def held_by(tensor: Any) -> Iterator[Tensor]:
    """Yield the plain tensors of which one consists: quantised ones have scales beside them."""
    if hasattr(tensor, "__tensor_flatten__"):  # of several tensors, as torchao's are
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from held_by(getattr(tensor, name))
        return
    yield tensor.detach()
    yield from _int8(tensor)
    state = getattr(tensor, "quant_state", None)  # and its 4 bits
    while state is not None:
        yield from (state.absmax, state.code)
        if isinstance(state.offset, Tensor):
            yield state.offset
        state = state.state2


def _int8(holder: Any) -> Iterator[Tensor]:
    """Yield the int8 weights and the scales that bitsandbytes keeps in an object."""
    for name in ("CB", "SCB"):
        if isinstance(part := getattr(holder, name, None), Tensor):
            yield part


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the storages behind tensors."""
    sizes = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())
