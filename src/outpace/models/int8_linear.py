"""Linear layers in int8 on the CPU, by the kernels that torch itself brings."""

import hashlib
import warnings
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL = 1_048_576
"""Weights of the largest layer whose activations stay as they are."""

WIDEST = 64
"""Rows that the small layer's kernel computes; more are a part of a prompt."""

TINY = 1e-30
"""The least scale: of a row of zeros."""


class ExportedInt8Linear(nn.Module):
    """What is compiled in place of the layers below: the same numbers, by a product in float32.

    The compiler can look neither into fbgemm's packed weights nor past a choice by the number of
    rows. Integers up to 127 are exact in float32, so the products are those of fbgemm's kernel.

    Args:
        weight: ``[N, K]`` int8.
        scales: ``[N]`` float32.
        bias: ``[N]`` or None; shared, not copied.
        levels: the largest activation as an integer; None to leave activations as they are.
    """

    weight: Tensor
    scales: Tensor

    def __init__(
        self, weight: Tensor, scales: Tensor, bias: Tensor | None, levels: int | None
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales)
        self.bias = bias
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[..., N]`` in the dtype of ``x [..., K]``."""
        rows = x.reshape(-1, x.shape[-1]).float()
        if self.levels is None:
            out = torch.ops.aten._weight_int8pack_mm(rows, self.weight, self.scales)
        else:
            peaks = rows.abs().amax(-1, keepdim=True).clamp(min=TINY)
            integers = (rows / peaks * self.levels).round().clamp(-self.levels, self.levels)
            out = torch.ops.aten._weight_int8pack_mm(integers, self.weight, self.scales)
            out = out * (peaks / self.levels)
        if self.bias is not None:
            out = out + self.bias
        given: Tensor = out.view(*x.shape[:-1], -1).to(x.dtype)
        return given


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
    compiles = True

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        weight = weight.detach().float()
        scales = weight.abs().amax(1).clamp(min=TINY) / 127  # [N]
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
        self.content = hashlib.sha256(rounded.contiguous().cpu().numpy().data).hexdigest()

    def exported(self) -> nn.Module:
        """Return what is compiled in its place, with a copy of the weights."""
        weight, _ = torch.ops.quantized.linear_unpack(self._packed)
        scales = weight.q_per_channel_scales().float()
        return ExportedInt8Linear(weight.int_repr(), scales, self.bias, self.levels)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[..., N]`` in the dtype of ``x [..., K]``."""
        rows = x.float()
        # [..., 1], in one operation: on small layers the number of operations is what costs
        peaks = torch.linalg.vector_norm(rows, torch.inf, dim=-1, keepdim=True).clamp_(min=TINY)
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
    compiles = True
    packed: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        values = weight.detach().float()
        # the kernel wants scales of the activations' type: the weights are divided by what it gets
        scales = (values.abs().amax(1).clamp(min=TINY) / 127).to(weight.dtype)  # [N]
        rounded = (values / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
        self.register_buffer("packed", rounded.contiguous())
        self.register_buffer("scales", scales)
        self.bias = bias
        self.packed_numel = weight.numel()
        self.packed_bytes = rounded.nbytes + scales.nbytes
        self.first = values.flatten()[:64].clone()

    def exported(self) -> nn.Module:
        """Return what is compiled in its place."""
        return ExportedInt8Linear(self.packed, self.scales.float(), self.bias, None)

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


def _levels() -> int:
    """Return the largest activation: the kernel adds products in pairs, as 16 bits without VNNI."""
    return 127 if cast(Any, torch.cpu)._is_vnni_supported() else 63
