"""Low precisions: a copy of a model with its matrices in int8 or int4, the rest shared.

On the CPU the kernels are those that torch itself brings, on CUDA those of torchao. A quantised
model is another model: its text is its own, and it is named after its precision.
"""

import copy
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..errors import InvalidArgument, UnknownName, UnsupportedModel
from .attention import use_slot_attention
from .language_model import LanguageModel
from .torchao_linear import GROUP, TorchaoLinear, torchao_config

Make = Callable[[Tensor, Tensor | None], nn.Module]
"""From a weight ``[N, K]`` and a bias ``[N]`` or None to a :class:`Packed` linear layer."""

SMALL = 1_048_576
"""Weights of the largest layer whose activations stay as they are in int8 on the CPU."""

WIDEST = 64
"""Rows that its kernel computes; more are a part of a prompt."""

_TINY = 1e-30


class Packed(Protocol):
    """What :class:`LanguageModel` reads of a layer whose weights are not parameters."""

    precision: str
    packed_numel: int
    packed_bytes: int
    first: Tensor


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, one scale an output, and int8 activations, one a row.

    The kernel takes one activation scale for the whole tensor, so each row is divided by its own
    maximum first and the kernel's scale is a constant. Products are added as integers, so a row's
    result is the same to the last bit whatever the other rows are, and however many.

    Args:
        weight: ``[N, K]``, floating point.
        bias: ``[N]`` or None; shared, not copied.
    """

    precision = "int8"

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        weight = weight.detach().float()
        scales = weight.abs().amax(1).clamp(min=_TINY) / 127  # [N]
        rounded = (weight / scales[:, None]).round().clamp(-127, 127).to(torch.int8)
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        with warnings.catch_warnings():
            # torch points to torchao instead, which has no kernel of this kind for eager CPU
            warnings.simplefilter("ignore")
            tensor = torch._make_per_channel_quantized_tensor(rounded, scales.double(), zeros, 0)
            self._packed = torch.ops.quantized.linear_prepack(tensor, None)
        self.bias = bias
        self.levels = _levels()
        self.packed_numel = weight.numel()
        self.packed_bytes = weight.numel() + 8 * len(scales)  # a scale and a column sum an output
        self.first = weight.flatten()[:64].clone()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[..., N]`` in the dtype of ``x [..., K]``."""
        rows = x.float()
        # [..., 1], in one operation: on small layers the number of operations is what costs
        peaks = torch.linalg.vector_norm(rows, torch.inf, dim=-1, keepdim=True).clamp_(min=_TINY)
        out: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default(
            rows / peaks, 1 / self.levels, self.levels + 1, self._packed
        )
        out.mul_(peaks)
        if self.bias is not None:
            out.add_(self.bias)
        return out.to(x.dtype)


class SmallInt8Linear(nn.Module):
    """A small linear layer with int8 weights, one scale an output; activations as they are.

    One operation: on a small layer the ones around :class:`Int8Linear`'s kernel cost more than its
    arithmetic. Rows are computed one by one, so a row's result does not depend on the others up
    to 64 of them, the widest a round can be; of the parts of a prompt, which are wider and cut
    alike whatever is drafted, the product is one of floating point.

    Args:
        weight: ``[N, K]``, floating point, K a multiple of 16.
        bias: ``[N]`` or None; shared, not copied.
    """

    precision = "int8"
    packed: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        values = weight.detach().float()
        # the kernel wants scales of the activations' type: the weights are divided by what it gets
        scales = (values.abs().amax(1).clamp(min=_TINY) / 127).to(weight.dtype)  # [N]
        rounded = (values / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
        self.register_buffer("packed", rounded.contiguous())
        self.register_buffer("scales", scales)
        self.bias = bias
        self.packed_numel = weight.numel()
        self.packed_bytes = rounded.nbytes + scales.nbytes
        self.first = values.flatten()[:64].clone()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[..., N]`` in the dtype of ``x [..., K]``."""
        rows = x.reshape(-1, x.shape[-1]).to(self.scales.dtype).contiguous()
        if len(rows) > WIDEST:
            out = F.linear(rows, self.packed.to(rows.dtype) * self.scales[:, None])
        else:
            out = torch.ops.aten._weight_int8pack_mm(rows, self.packed, self.scales)
        if self.bias is not None:
            out = out + self.bias
        return out.view(*x.shape[:-1], -1).to(x.dtype)


def int8_linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Return the int8 layer for the CPU that suits the size of a matrix ``[N, K]``."""
    # the small layer's kernel reads 16 weights at a time, past the end if there are fewer
    small = weight.numel() <= SMALL and weight.shape[1] % 16 == 0
    return (SmallInt8Linear if small else Int8Linear)(weight, bias)


class Int4Linear(nn.Module):
    """A linear layer with int4 weights, a scale and an offset for each group of 64 in a row.

    The kernel gives the weights their values back and multiplies in floating point.

    Args:
        weight: ``[N, K]``, floating point, N a multiple of 16 and K one of 64.
        bias: ``[N]`` or None; shared, not copied.

    Raises:
        InvalidArgument: other sizes.
    """

    precision = "int4"
    packed: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        rows, columns = weight.shape
        if rows % 16 or columns % GROUP:
            raise InvalidArgument(
                f"{columns} inputs and {rows} outputs, int4 needs a multiple of {GROUP} and one of "
                "16: give int8"
            )
        groups = weight.detach().float().reshape(rows, -1, GROUP)
        low, high = groups.amin(2, keepdim=True), groups.amax(2, keepdim=True)
        steps = ((high - low) / 15).clamp(min=_TINY)
        codes = ((groups - low) / steps).round().clamp(0, 15).to(torch.int32).reshape(rows, -1)
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
        self.register_buffer("packed", packed)
        # the kernel's value is (code - 8) · scale + offset; [K / 64, N, 2]
        scales = torch.cat([steps, low + 8 * steps], dim=2).transpose(0, 1).contiguous()
        self.register_buffer("scales", scales.to(weight.dtype))
        self.bias = bias
        self.packed_numel = weight.numel()
        self.packed_bytes = packed.nbytes + self.scales.nbytes
        self.first = groups.flatten()[:64].clone()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[..., N]`` in the dtype of ``x [..., K]``."""
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        out: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            rows, self.packed, GROUP, self.scales
        )
        if self.bias is not None:
            out = out + self.bias
        return out.view(*x.shape[:-1], -1)


PRECISIONS: Mapping[str, Make] = {
    "int8": int8_linear,
    "int4": Int4Linear,
}
"""The precisions below bfloat16 that a model can have, and their layers on the CPU."""


def check_precision(precision: str, device: torch.device | None = None) -> None:
    """Refuse a precision that there is not, or not on this device.

    Raises:
        UnknownName: neither ``int8`` nor ``int4``.
        InvalidArgument: another device than a CPU or a GPU of NVIDIA's, a CPU whose torch has no
            such kernel, or CUDA without torchao.
    """
    if precision not in PRECISIONS:
        raise UnknownName(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    if device is not None and device.type == "cuda":
        torchao_config(precision)
        return
    if device is not None and device.type != "cpu":
        raise InvalidArgument(
            f"precision {precision} on {device}: it is made for cpu and cuda: give one of them, or "
            "dtype bfloat16"
        )
    if precision == "int8" and not {"fbgemm", "x86"} & set(
        torch.backends.quantized.supported_engines
    ):
        raise InvalidArgument(
            "precision int8 needs a torch with fbgemm, as for x86 processors: give dtype bfloat16"
        )


def quantized(model: LanguageModel, precision: str, *, head: bool = False) -> LanguageModel:
    """Return a copy of a model whose linear layers have low-precision weights.

    Everything else (embeddings, norms, biases, the output head) is shared with the model, which
    is not altered. Weights that are no linear layer's, as those of some mixtures of experts, stay
    as they are.

    As a drafter the copy never changes the text. As a target it has a text of its own, the same
    whatever is drafted; on CUDA up to near ties, since torchao's kernels do not promise a row the
    same last bits at every width.

    Args:
        model: what to copy, on the CPU or, with torchao, on CUDA.
        precision: ``int8`` (weights and activations) or ``int4`` (weights alone, groups of 64).
        head: quantise the output head too; tied embeddings stay as they are.

    Raises:
        UnknownName: another precision.
        InvalidArgument: not on this device, or a layer's size cannot be had in this precision.
        UnsupportedModel: quantised already, no linear layers, or their weights are used directly.
    """
    check_precision(precision, model.device)
    if model.precision in PRECISIONS:
        raise UnsupportedModel(
            f"{model.name} has {model.precision} weights: quantise the model it was made from"
        )
    # what is in the memo is shared: modules and configurations are copied, tensors are not
    memo: dict[int, Any] = {id(t): t for t in (*model.model.parameters(), *model.model.buffers())}
    with model.stock() as stock:  # the copy, too, is to know its own attention
        copied = copy.deepcopy(stock, memo)
    kept = None if head else copied.get_output_embeddings()
    make: Make = PRECISIONS[precision]
    if model.device.type == "cuda":
        make = partial(TorchaoLinear, precision)
    if not _replace(copied, kept, make, model.name):
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


def _levels() -> int:
    """Return the largest activation: the kernel adds products in pairs, as 16 bits without VNNI."""
    return 127 if cast(Any, torch.cpu)._is_vnni_supported() else 63
