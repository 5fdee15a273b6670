"""Compiling layers of packed weights: what is exported for them, and what multiplies by them.

Inductor's templates have a kernel that turns int8 weights into float32 on their way into the
registers, but use it for rows in bfloat16 alone, which it converts number by number at every
product. For rows in float32 it is as fast as the memory at one row.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import nn

_INDUCTOR = "torch._inductor"
_TILES = {"VecAVX512": (6, 64, 1), "VecAVX2": (4, 24, 1)}
"""Rows, columns and depth of a tile by the processor's instructions: sums that fit registers."""

_BACKENDS = {"_weight_int8pack_mm": "CPP", "_weight_int4pack_mm_for_cpu": "ATEN"}
"""Products by packed weights, and who computes them: the templates, or the kernels torch has."""


@contextmanager
def exportable(model: nn.Module) -> Iterator[None]:
    """Have layers that cannot be exported stand aside for layers that compute the same."""
    found = [
        (path, layer)
        for path, layer in model.named_modules(remove_duplicate=False)
        if hasattr(layer, "exported")
    ]
    try:
        for path, layer in found:
            _put(model, path, layer.exported())
        yield
    finally:
        for path, layer in found:
            _put(model, path, layer)


def _put(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, layer)


@contextmanager
def by_packed_weights() -> Iterator[None]:
    """Have Inductor compile products by int8 and int4 weights, whatever computes the others.

    There is one choice for each, so nothing is tried out and nothing is printed. Where the compiler
    is not as expected it refuses what has such products, and compiles all else as ever.
    """
    with ExitStack() as after:
        with suppress(ImportError, AttributeError, TypeError, KeyError):
            lowerings: dict[Any, Any] = importlib.import_module(f"{_INDUCTOR}.lowering").lowerings
            templates: Any = importlib.import_module(f"{_INDUCTOR}.codegen.cpp_micro_gemm")
            kernels: dict[Any, Any] = templates.micro_gemm_configs
            kernel = templates.CppMicroGemmFP32Vec
            after.callback(kernels.__setitem__, kernel, kernels[kernel])
            kernels[kernel] = [*kernels[kernel], *_for_float_rows(templates)]
            for name, backend in _BACKENDS.items():
                op = getattr(torch.ops.aten, name)
                for key in (op, op.default):
                    after.callback(lowerings.__setitem__, key, lowerings[key])
                    lowerings[key] = _with_backend(lowerings[key], backend)
        yield


def _with_backend(lowering: Any, backend: str) -> Any:
    config: Any = importlib.import_module(f"{_INDUCTOR}.config")

    def lowered(*given: Any, **more: Any) -> Any:
        with config.patch(max_autotune_gemm_backends=backend):
            return lowering(*given, **more)

    return lowered


def _for_float_rows(templates: Any) -> list[Any]:
    """Return the kernel's configurations for float32 rows and int8 weights."""
    isa = importlib.import_module(f"{_INDUCTOR}.cpu_vec_isa")
    made: list[Any] = []
    for name, tile in _TILES.items():
        made += templates.generate_gemm_config(
            getattr(isa, name), [tile], torch.float32, torch.int8, torch.float32
        )
    return made
