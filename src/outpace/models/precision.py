"""Low precisions: a copy of a model with its matrices in few bits, the rest shared.

On the CPU the kernels are those that torch itself brings, on CUDA those of torchao; bitsandbytes,
another optional package, has two of its own for both. A quantised model is another model: its text
is its own, and it is named after its precision.
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..errors import InvalidArgument, UnknownName, UnsupportedModel
from .attention import use_slot_attention
from .bitsandbytes_linear import KINDS, BitsandbytesLinear, bitsandbytes_layers
from .int4_linear import Int4Linear
from .int8_linear import int8_linear
from .language_model import LanguageModel
from .torchao_linear import TorchaoLinear, torchao_config

Make = Callable[[Tensor, Tensor | None], nn.Module]
"""From a weight ``[N, K]`` and a bias ``[N]`` or None to a :class:`Packed` linear layer."""


class Packed(Protocol):
    """What :class:`LanguageModel` reads of a layer whose weights are not parameters."""

    precision: str
    packed_numel: int
    packed_bytes: int
    first: Tensor


ON_CPU: Mapping[str, Make] = {"int8": int8_linear, "int4": Int4Linear}
"""Precisions whose kernels on the CPU are torch's own, and their layers."""
PRECISIONS = (*ON_CPU, "fp8", *KINDS)
"""The precisions below bfloat16 that a model can have."""
_FP8 = (8, 9)
"""Compute capability from which GPUs multiply 8-bit floating point."""


def check_precision(precision: str, device: torch.device | None = None) -> None:
    """Refuse a precision that there is not, or not on this device.

    Raises:
        UnknownName: none of :data:`PRECISIONS`.
        InvalidArgument: a device, a chip or a build of torch that has no such kernel, or a package
            that is not installed.
    """
    if precision not in PRECISIONS:
        raise UnknownName(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    if device is None:
        return
    known = ("cuda",) if precision == "fp8" else ("cpu", "cuda")
    if device.type not in known:
        raise InvalidArgument(
            f"precision {precision} on {device}: it is made for {' and '.join(known)}: give "
            f"{'one of them' if len(known) > 1 else 'device cuda'}, or dtype bfloat16"
        )
    if precision in KINDS:
        bitsandbytes_layers(precision)
    elif device.type == "cuda":
        if precision == "fp8" and (chip := torch.cuda.get_device_capability(device)) < _FP8:
            raise InvalidArgument(
                f"precision fp8 on {torch.cuda.get_device_name(device)}: its compute capability is "
                f"{chip[0]}.{chip[1]}, fp8 needs {_FP8[0]}.{_FP8[1]} or more: give int8"
            )
        torchao_config(precision)
    elif precision == "int8" and not {"fbgemm", "x86"} & set(
        torch.backends.quantized.supported_engines
    ):
        raise InvalidArgument(
            "precision int8 needs a torch with fbgemm, as for x86 processors: give dtype bfloat16"
        )


def _maker(precision: str, device: torch.device) -> Make:
    """Return what makes layers of a precision on a device, which is checked."""
    if precision in KINDS:
        return partial(BitsandbytesLinear, precision)
    if device.type == "cuda":
        return partial(TorchaoLinear, precision)
    return ON_CPU[precision]


def quantized(model: LanguageModel, precision: str, *, head: bool = False) -> LanguageModel:
    """Return a copy of a model whose linear layers have low-precision weights.

    Everything else (embeddings, norms, biases, the output head) is shared with the model, which
    is not altered. Weights that are no linear layer's, as those of some mixtures of experts, stay
    as they are.

    As a drafter the copy never changes the text. As a target it has a text of its own, the same
    whatever is drafted; on CUDA up to near ties, since torchao's kernels do not promise a row the
    same last bits at every width. ``bnb-int8`` promises less, see
    :attr:`LanguageModel.rows_alone`.

    Args:
        model: what to copy, on the CPU or, with torchao or bitsandbytes, on CUDA.
        precision: ``int8`` (weights and activations), ``int4`` (weights alone, groups of 64),
            ``fp8`` (both, on CUDA), or ``bnb-int8`` and ``nf4`` of bitsandbytes.
        head: quantise the output head too; tied embeddings stay as they are.

    Raises:
        UnknownName: another precision.
        InvalidArgument: not on this device, or a layer's size cannot be had in this precision.
        UnsupportedModel: quantised already, no linear layers, or their weights are used directly.
    """
    check_precision(precision, model.device)
    if model.is_quantized:
        raise UnsupportedModel(
            f"{model.name} has {model.precision} weights: quantise the model it was made from"
        )
    # what is in the memo is shared: modules and configurations are copied, tensors are not
    memo: dict[int, Any] = {id(t): t for t in (*model.model.parameters(), *model.model.buffers())}
    with model.stock() as stock:  # the copy, too, is to know its own attention
        copied = copy.deepcopy(stock, memo)
    kept = None if head else copied.get_output_embeddings()
    if not _replace(copied, kept, _maker(precision, model.device), model.name):
        raise UnsupportedModel(f"{model.name} has no linear layers to quantise: use it as it is")
    made = LanguageModel(copied, model.tokenizer, f"{model.name} ({precision})")
    try:
        made.stock_logits(torch.zeros(1, 2, dtype=torch.int64, device=made.device))
    except Exception as error:
        # a model of unknown make may read a layer's weight instead of calling the layer
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnsupportedModel(
            f"{model.name} does not run in {precision} ({reason}): give dtype bfloat16"
        ) from error
    use_slot_attention(copied)
    return made


def _replace(root: nn.Module, kept: nn.Module | None, make: Make, name: str) -> int:
    """Replace the linear layers of ``root`` but ``kept``; return how many."""
    found = [
        (path, layer)
        for path, layer in root.named_modules()
        if isinstance(layer, nn.Linear | Conv1D) and layer is not kept
    ]
    for path, layer in found:
        # Conv1D is GPT-2's linear layer, its matrix the other way round
        weight = layer.weight if isinstance(layer, nn.Linear) else layer.weight.t()
        try:
            small = make(weight, layer.bias)
        except InvalidArgument as error:
            raise InvalidArgument(f"{name}: layer {path} has {error}") from None
        parent, _, attribute = path.rpartition(".")
        setattr(root.get_submodule(parent), attribute, small)
    return len(found)
