"""Linear layers in int8, int4 and fp8 on CUDA, by the kernels of torchao, an optional package."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InvalidArgument
from .footprint import held_by, nbytes

GROUP = 64
"""How many weights of a row share one scale and offset in int4."""

_SIZES = {"int8": (8, 8), "int4": (GROUP, 1), "fp8": (16, 16)}
"""What inputs and outputs must be multiples of: for others torchao's int8 goes to the CPU and back
in every product, its int4 leaves the layer as it is, and there is no product in fp8."""


class TorchaoLinear(nn.Module):
    """A linear layer whose weight torchao has quantised.

    ``int8`` has one scale an output and int8 activations, one scale a row; ``int4`` a scale and an
    offset for each group of 64 weights, bfloat16 products; ``fp8`` (e4m3) has one scale an output
    and fp8 activations, one scale a row.

    Which kernel multiplies may depend on the number of rows, so a row's result is not promised to
    be the same to the last bit beside other rows.

    Args:
        precision: ``int8``, ``int4`` or ``fp8``.
        weight: ``[N, K]``, floating point; int8 needs multiples of 8, int4 a K that is one of 64,
            fp8 multiples of 16.
        bias: ``[N]`` or None; shared, not copied.

    Raises:
        InvalidArgument: other sizes, a GPU that torchao has no kernel for, or no torchao.
    """

    def __init__(self, precision: str, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        quantize, config = torchao_config(precision)
        outputs, inputs = weight.shape
        of_inputs, of_outputs = _SIZES[precision]
        if inputs % of_inputs or outputs % of_outputs:
            also = f" and one of {of_outputs}" if of_outputs > 1 else ""
            raise InvalidArgument(
                f"{inputs} inputs and {outputs} outputs, {precision} on a GPU needs a multiple of "
                f"{of_inputs}{also}: give {'dtype bfloat16' if precision == 'int8' else 'int8'}"
            )
        layer = nn.Linear(inputs, outputs, bias=False, device="meta")
        # these are made from bfloat16 alone
        self._bfloat16 = precision in {"int4", "fp8"}
        values = weight.detach().to(torch.bfloat16 if self._bfloat16 else weight.dtype)
        layer.weight = nn.Parameter(values.contiguous(), requires_grad=False)
        try:
            quantize(layer, config)
        except (ValueError, AssertionError, NotImplementedError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InvalidArgument(
                f"weights that torchao cannot pack in {precision} ({reason}): give dtype bfloat16"
            ) from error
        # in a tuple, so that neither parameters() nor to() find it
        self._hidden = (layer,)
        self.bias = bias
        self.precision = precision
        self.packed_numel = weight.numel()
        self.packed_bytes = nbytes(held_by(layer.weight))
        self.first = weight.detach().flatten()[:64].float().clone()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[..., N]`` in the dtype of ``x [..., K]``."""
        rows = x.to(torch.bfloat16) if self._bfloat16 else x
        out = F.linear(rows, self._hidden[0].weight).to(x.dtype)
        return out if self.bias is None else out + self.bias


def torchao_config(precision: str) -> tuple[Any, Any]:
    """Return torchao's ``quantize_`` and its configuration of a precision.

    Raises:
        InvalidArgument: torchao is not installed, or too old.
    """
    needs = f"precision {precision} on cuda needs torchao"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other parts of it than these
            from torchao import quantization
        # the settings of torch.compile are the process's, not ours
        if precision == "int8":
            config = quantization.Int8DynamicActivationInt8WeightConfig(
                granularity=quantization.PerRow(), set_inductor_config=False
            )
        elif precision == "fp8":
            config = quantization.Float8DynamicActivationFloat8WeightConfig(
                granularity=quantization.PerRow(), set_inductor_config=False
            )
        else:
            config = quantization.Int4WeightOnlyConfig(
                group_size=GROUP,
                int4_packing_format="tile_packed_to_4d",
                set_inductor_config=False,
            )
    except ModuleNotFoundError as error:
        raise InvalidArgument(f"{needs}: pip install torchao") from error
    except (ImportError, AttributeError, TypeError) as error:
        raise InvalidArgument(f"{needs} 0.18 or newer: pip install --upgrade torchao") from error
    return quantization.quantize_, config
