"""Matrix products of a few rows in bfloat16: a kernel for the templates of Inductor's compiler.

The kernel that comes with the templates turns weights into float32 before it multiplies them, at
every row anew past the first few. Processors with AVX-512 BF16 multiply pairs of bfloat16 and add
them up in float32 by one instruction; with that, eight rows take little longer than one, whose time
goes into reading the weights.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch

_ISA = "torch._inductor.cpu_vec_isa"
_FIRST, _TEMPLATES = "torch._inductor.lowering", "torch._inductor.codegen.cpp_micro_gemm"
_TILE = (6, 64, 2)
"""Rows, columns and depth of a tile: as many sums as there are registers for."""

_SOURCE = r"""
template <int ROWS, bool accum>
inline void {{kernel_name}}_tile(
    const {{input_t}}* {{restrict_keyword}} A,
    const {{input2_t}}* {{restrict_keyword}} B,
    float* {{restrict_keyword}} C,
    int64_t K, int64_t lda, int64_t ldb, int64_t ldc
) {
    constexpr int VECTORS = {{block_n}} / 16;
    __m512 sums[ROWS][VECTORS];
    #pragma GCC unroll 8
    for (int row = 0; row < ROWS; ++row) {
        #pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) {
            sums[row][v] = accum ? _mm512_loadu_ps(C + row * ldc + 16 * v) : _mm512_setzero_ps();
        }
    }
    // pairs along K, of 16 columns each, are one vector; constant weights lie so in memory
    for (int64_t k = 0; k < K; k += 2) {
        __m512i weights[VECTORS];
        #pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) {
{%- if pack_vnni_B_locally %}
            const auto B0 = (const __m256i*)(B + k * ldb + 16 * v);
            const auto B1 = (const __m256i*)(B + (k + 1) * ldb + 16 * v);
            const __m512i first = _mm512_cvtepu16_epi32(_mm256_loadu_si256(B0));
            const __m512i second = _mm512_cvtepu16_epi32(_mm256_loadu_si256(B1));
            weights[v] = _mm512_or_si512(first, _mm512_slli_epi32(second, 16));
{%- else %}
            weights[v] = _mm512_loadu_si512(B + k * ldb + 32 * v);
{%- endif %}
        }
        #pragma GCC unroll 8
        for (int row = 0; row < ROWS; ++row) {
            int32_t two;
            std::memcpy(&two, A + row * lda + k, sizeof two);
            const __m512bh pair = (__m512bh)_mm512_set1_epi32(two);
            #pragma GCC unroll 8
            for (int v = 0; v < VECTORS; ++v) {
                sums[row][v] = _mm512_dpbf16_ps(sums[row][v], pair, (__m512bh)weights[v]);
            }
        }
    }
    #pragma GCC unroll 8
    for (int row = 0; row < ROWS; ++row) {
        #pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) {
            _mm512_storeu_ps(C + row * ldc + 16 * v, sums[row][v]);
        }
    }
}

{{declare_kernel}} {
    for (int64_t m = 0; m < M; m += {{block_m}}) {
        const int64_t rows = std::min<int64_t>(M - m, {{block_m}});
        for (int64_t n = 0; n < N; n += {{block_n}}) {
            const auto columns = B + n * {{ 1 if pack_vnni_B_locally else 2 }};
            switch (rows) {
{%- for rows in range(1, block_m + 1) %}
                case {{rows}}:
                    {{kernel_name}}_tile<{{rows}}, accum>(
                        A + m * lda, columns, C + m * ldc + n, K, lda, ldb, ldc
                    );
                    break;
{%- endfor %}
            }
        }
    }
}
"""


def multiplies_bfloat16() -> bool:
    """Return whether this processor and the compiler here have AVX-512 BF16."""
    with suppress(ImportError, AttributeError):
        isa: Any = importlib.import_module(_ISA)
        found = isa.pick_vec_isa()
        return isinstance(found, isa.VecAVX512) and bool(found.is_avx512_bf16_supported())
    return False


@contextmanager
def pairwise() -> Iterator[None]:
    """Have Inductor's templates multiply bfloat16 by this kernel, where the processor can.

    Elsewhere, or where the templates are not those it was written for, they use their own.
    """
    kernels, with_ours = _kernels()
    before = dict(kernels)
    kernels.update(with_ours)
    try:
        yield
    finally:
        kernels.clear()
        kernels.update(before)


def _kernels() -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return the kernels the templates choose from, and what changes with this one."""
    with suppress(ImportError, AttributeError, TypeError):
        importlib.import_module(_FIRST)  # the other one imports it in a circle
        templates: Any = importlib.import_module(_TEMPLATES)
        if multiplies_bfloat16():
            kernels: dict[Any, Any] = templates.micro_gemm_configs
            ours = templates.generate_gemm_config(
                importlib.import_module(_ISA).VecAVX512,
                [_TILE],
                input_dtype=torch.bfloat16,
                output_dtype=torch.float32,
                extra_check=_fits,
            )
            changed = {
                kernel: [_standing_back(config, ours[0]) for config in configs]
                for kernel, configs in kernels.items()
            }
            return kernels, {**changed, _kernel(templates): ours}
    return {}, {}


def _fits(config: Any, m: Any, n: Any, k: Any, alpha: Any, threads: Any, **_: Any) -> bool:
    return bool(k % _TILE[2] == 0 and alpha == 1)


def _standing_back(config: Any, ours: Any) -> Any:
    """Return another kernel's configuration, not to be chosen where ours can be."""

    def key(one: Any) -> tuple[Any, ...]:
        return one.vec_isa_cls, one.input_dtype, one.input2_dtype, one.output_dtype

    if key(config) != key(ours):
        return config
    check = config.extra_check

    def otherwise(*given: Any, **more: Any) -> bool:
        return not _fits(*given, **more) and (check is None or check(*given, **more))

    return replace(config, extra_check=otherwise)


def _kernel(templates: Any) -> Any:
    class PairwiseProduct(templates.CppMicroGemm):  # type: ignore[misc]
        """Bfloat16 by bfloat16, in pairs along the depth, summed in float32."""

        def codegen_define(self, kernel: Any) -> str:
            block_m, block_n, _ = self.register_blocking
            options = {
                **self.get_common_options(),
                "declare_kernel": self.get_kernel_declaration(),
                "block_m": block_m,
                "block_n": block_n,
            }
            return str(templates.KernelTemplate._template_from_string(_SOURCE).render(options))

        def get_b_layout(self) -> Any:
            return templates.LayoutType.VNNI2

    return PairwiseProduct
