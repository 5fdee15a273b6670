"""Linear layers by the kernels of bitsandbytes, an optional package: LLM.int8() and NF4."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidArgument
from .footprint import held_by, nbytes

OUTPUTS = 32
"""NF4 on a CPU: the number of outputs is made a multiple of it."""
KINDS = ("bnb-int8", "nf4")
THRESHOLD = 6.0
"""LLM.int8(): features with a larger activation are multiplied in 16 bits."""
BLOCK = 64
"""NF4: weights that share a scale; the scales are quantised too."""


class BitsandbytesLinear(nn.Module):
    """A linear layer whose weight bitsandbytes has quantised.

    ``bnb-int8`` is LLM.int8() (arXiv 2208.07339): int8 weights, one scale an output, int8
    activations, one scale a row; features that pass the threshold in any row are multiplied in
    float16, so a row's result depends on the rows beside it. ``nf4`` (arXiv 2305.14314) has 16
    levels that suit normally distributed weights, a scale for each 64 of them, products in the
    activations' dtype.

    Args:
        kind: ``bnb-int8`` or ``nf4``.
        weight: ``[N, K]``, floating point; for nf4 K is a multiple of 64.
        bias: ``[N]`` or None; shared, not copied.

    Raises:
        InvalidArgument: other sizes, or no bitsandbytes.
    """

    def __init__(self, kind: str, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        layers = bitsandbytes_layers(kind)
        outputs, inputs = weight.shape
        values = weight.detach()
        if kind == "nf4":
            if inputs % BLOCK:
                raise InvalidArgument(
                    f"{inputs} inputs and {outputs} outputs, nf4 needs a multiple of {BLOCK}: give "
                    "int8"
                )
            # of other numbers its kernel for AVX-512 (bfloat16) makes an error
            missing = -outputs % OUTPUTS if weight.device.type == "cpu" else 0
            values = nn.functional.pad(values, (0, 0, 0, missing))
            layer = layers.Linear4bit(
                inputs, outputs + missing, bias=False, quant_type=kind, device="meta"
            )
            packed = layers.Params4bit(
                values.contiguous(), requires_grad=False, quant_type=kind, blocksize=BLOCK
            )
        else:
            layer = layers.Linear8bitLt(
                inputs,
                outputs,
                bias=False,
                has_fp16_weights=False,
                threshold=THRESHOLD,
                device="meta",
            )
            packed = layers.Int8Params(
                values.to(torch.float16).contiguous(), requires_grad=False, has_fp16_weights=False
            )
        layer.weight = packed
        # moving is what quantises, there on a GPU as well as here
        layer.weight = layer.weight.to(weight.device)
        # in a tuple, so that neither parameters() nor to() find it
        self._hidden = (layer.eval(),)
        self.bias = bias
        self.precision = kind
        self.rows_alone = kind == "nf4"
        self.packed_numel = weight.numel()
        self._outputs = outputs
        self.packed_bytes = nbytes(held_by(layer.weight))
        self.first = values.flatten()[:64].float().clone()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[..., N]`` in the dtype of ``x [..., K]``."""
        layer: Any = self._hidden[0]
        if self.precision == "nf4":
            layer.compute_dtype = x.dtype
            out: Tensor = layer(x)[..., : self._outputs]
        else:
            out = layer(x.to(torch.float16)).to(x.dtype)
        return out if self.bias is None else out + self.bias


def bitsandbytes_layers(kind: str) -> Any:
    """Return the module of bitsandbytes' layers.

    Raises:
        InvalidArgument: it is not installed.
    """
    try:
        import bitsandbytes.nn
    except ImportError as error:
        raise InvalidArgument(
            f"precision {kind} needs bitsandbytes: pip install 'outpace[bitsandbytes]'"
        ) from error
    return bitsandbytes.nn
