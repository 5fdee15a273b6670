"""What a model takes in memory, by its configuration alone: no weights are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from ..errors import UnsupportedModel
from .bitsandbytes_linear import BLOCK, OUTPUTS
from .footprint import weights
from .int8_linear import SMALL
from .kv import Shape
from .language_model import LanguageModel
from .load import resolve_dtype, without_weights
from .precision import PRECISIONS
from .probe import layer_shapes
from .stored import stored_precision
from .torchao_linear import GROUP

Size = Callable[[int, int, str], int]
"""From outputs, inputs and kind of device to the bytes of a matrix with its scales."""
_WIDE = 2
"""Bytes of a number of bfloat16, in which everything but the matrices of a low precision is."""


def _int8(outputs: int, inputs: int, device: str) -> int:
    small = outputs * inputs <= SMALL and inputs % 16 == 0
    # a scale an output; in fbgemm's layout one of four bytes and a column sum beside it
    scale = 8 if device == "cpu" and not small else _WIDE
    return outputs * inputs + outputs * scale


def _int4(outputs: int, inputs: int, device: str) -> int:
    return outputs * inputs // 2 + outputs * (inputs // GROUP) * 2 * _WIDE


def _fp8(outputs: int, inputs: int, device: str) -> int:
    return outputs * inputs + 4 * outputs


def _nf4(outputs: int, inputs: int, device: str) -> int:
    if device == "cpu":
        outputs += -outputs % OUTPUTS
    blocks = -(-outputs * inputs // BLOCK)
    # a byte a block, those quantised by 256 with two tables of levels and an offset
    return outputs * inputs // 2 + blocks + 4 * -(-blocks // 256) + 4 * (16 + 256 + 1)


SIZES: Mapping[str, Size] = {
    "int8": _int8,
    "int4": _int4,
    "fp8": _fp8,
    "bnb-int8": _fp8,
    "nf4": _nf4,
}
"""The matrices of each precision below bfloat16, as this package makes them."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A model without its weights.

    Attributes:
        name: of the model.
        parameters: how many numbers it has, shared ones once.
        whole: those of embeddings, norms, biases and the output head, which no precision narrows.
        fixed: bytes that are what they are in any dtype.
        matrices: outputs and inputs of the linear layers that a precision narrows.
        shapes: heads and width of every layer's keys and values.
        hidden: width of the residual stream.
        inner: width of the feed-forward layers.
        vocabulary: rows of the output layer.
        context_length: how many tokens a sequence may have; None is any number.
    """

    name: str
    parameters: int
    whole: int
    fixed: int
    matrices: Sequence[tuple[int, int]]
    shapes: Sequence[Shape]
    hidden: int
    inner: int
    vocabulary: int
    context_length: int | None

    @classmethod
    def of(cls, name: str | os.PathLike[str]) -> Outline:
        """Return the outline of a model.

        Raises:
            ModelNotFound: there is no such folder, or the hub does not give the model.
            UnsupportedModel: it was stored quantised, or its keys and values are none of ours.
        """
        bare = without_weights(name)
        if stored := stored_precision(bare.config):
            raise UnsupportedModel(
                f"{os.fspath(name)} was stored in {stored}: only its files say how large it is: "
                "give the checkpoint it was made from"
            )
        head = cast(Any, bare).get_output_embeddings()
        linear = [
            layer
            for layer in bare.modules()
            if isinstance(layer, nn.Linear | Conv1D) and layer is not head
        ]
        narrowed = {id(layer.weight) for layer in linear}
        unique = {id(tensor): tensor for tensor in weights(bare)}
        rest = [tensor for key, tensor in unique.items() if key not in narrowed]
        # Conv1D is GPT-2's linear layer, its matrix the other way round
        sizes = [(one, one.weight.shape) for one in linear]
        model = LanguageModel(bare, None, os.fspath(name))
        try:
            shapes = layer_shapes(model)
        except Exception as error:
            raise UnsupportedModel(
                f"{os.fspath(name)}: its keys and values cannot be told from its configuration "
                f"({(str(error).strip() or type(error).__name__).splitlines()[0]}): load it, as "
                "outpace bench does, which counts them"
            ) from error
        config = model.config
        hidden = int(config.hidden_size)
        return cls(
            os.fspath(name),
            sum(tensor.numel() for tensor in cast(Any, bare).parameters()),
            sum(tensor.numel() for tensor in rest if tensor.is_floating_point()),
            sum(tensor.nbytes for tensor in rest if not tensor.is_floating_point()),
            [(s[1], s[0]) if isinstance(one, Conv1D) else (s[0], s[1]) for one, s in sizes],
            shapes,
            hidden,
            int(getattr(config, "intermediate_size", None) or 4 * hidden),
            model.vocabulary,
            model.context_length,
        )

    def weight_bytes(self, dtype: str, device: str = "cuda") -> int:
        """Return the bytes of the weights.

        Args:
            dtype: a dtype or a precision, as of :func:`outpace.models.load`.
            device: ``cpu`` or ``cuda``, whose layouts of a low precision differ a little.

        Raises:
            UnknownName: no such dtype.
        """
        if dtype in PRECISIONS:
            packed = sum(SIZES[dtype](*size, device) for size in self.matrices)
            return packed + _WIDE * self.whole + self.fixed
        wide = resolve_dtype(dtype).itemsize
        narrowed = sum(outputs * inputs for outputs, inputs in self.matrices)
        return wide * (self.whole + narrowed) + self.fixed

    def loading_bytes(self, dtype: str, device: str = "cuda") -> int:
        """Return the bytes of the weights at the highest point of loading them.

        A low precision is made on the device from bfloat16, which is there until all is made.
        """
        if dtype not in PRECISIONS:
            return self.weight_bytes(dtype, device)
        packed = self.weight_bytes(dtype, device) - _WIDE * self.whole - self.fixed
        return self.weight_bytes("bfloat16", device) + packed

    def slot_bytes(self, dtype: str) -> int:
        """Return the bytes of the keys and values of one token."""
        return slot_bytes(self.shapes, width_of(dtype))


def slot_bytes(shapes: Sequence[Shape], width: int) -> int:
    """Return the bytes of one token's keys and values of numbers of so many bytes."""
    return width * sum(heads * size for layer in shapes for heads, size in layer)


def width_of(dtype: str) -> int:
    """Return the bytes of a number of keys, values and activations."""
    return _WIDE if dtype in PRECISIONS else resolve_dtype(dtype).itemsize


def half(device: torch.device) -> str:
    """Return the dtype of two bytes to compute in: float16, but bfloat16 on a CPU.

    A CPU has no arithmetic of float16 or is slow at it; its vendors' libraries have bfloat16.
    """
    return "bfloat16" if device.type == "cpu" else "float16"
