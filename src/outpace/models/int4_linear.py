"""Linear layers in int4 on the CPU, by the kernel that torch itself brings."""

import torch
from torch import Tensor, nn

from ..errors import InvalidArgument
from .int8_linear import TINY
from .torchao_linear import GROUP


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
    compiles = True
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
        steps = ((high - low) / 15).clamp(min=TINY)
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
