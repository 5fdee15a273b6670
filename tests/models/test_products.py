"""Our kernel for products of few rows in Inductor's templates, compiled for real."""

import shutil
import sys

import pytest
import torch
from torch import nn

from outpace.models import products

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the compiler's own
    pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler (g++)"),
    pytest.mark.skipif(
        shutil.which("g++") is not None and not products.multiplies_bfloat16(),
        reason="this processor has no AVX-512 BF16",
    ),
]


class Products(nn.Module):
    """Of constant weights, packed ahead, and of two activations, packed on the way."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.odd = nn.Linear(96, 81), nn.Linear(81, 33)

    def forward(self, rows, others):
        scale = torch.arange(1, 3, dtype=rows.dtype)[:, None, None]
        return self.odd(self.wide(rows)), torch.bmm(rows[None] * scale, others)


@pytest.fixture(scope="module")
def chosen():
    """The kernels that the templates were given while :class:`Products` was compiled."""
    import torch._inductor.config as inductor
    import torch._inductor.lowering
    from torch._inductor.codegen import cpp_gemm_template as templates

    model = Products().to(torch.bfloat16).eval()
    options = {"max_autotune": True, "max_autotune_gemm_backends": "CPP,ATEN", "freezing": True}
    made, original = [], templates.create_micro_gemm

    def create(name, m, n, k, *args, **kwargs):
        made.append(((n, k), type(original(name, m, n, k, *args, **kwargs)).__name__))
        return original(name, m, n, k, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(templates, "create_micro_gemm", create)
        with products.pairwise(), inductor.patch(freezing=True, force_disable_caches=True):
            compiled = torch.compile(model, options=options, dynamic=False)
            yield model, compiled, made


@pytest.mark.parametrize("width", [3, 7])
def test_products_are_right_whole_tiles_or_not(chosen, width):
    model, compiled, made = chosen
    rows = torch.randn(width, 96).to(torch.bfloat16)
    others = torch.randn(2, 96, 64).to(torch.bfloat16)
    got = compiled(rows, others)
    exact = Products().double().eval()
    exact.load_state_dict({name: one.double() for name, one in model.state_dict().items()})
    for one, wanted in zip(got, exact(rows.double(), others.double()), strict=True):
        assert (one - wanted).abs().max() < 0.01 * wanted.abs().max()
    kernels = dict(made)
    assert kernels[81, 96] == kernels[64, 96] == "PairwiseProduct"
    assert kernels[33, 81] != "PairwiseProduct"  # pairs of an odd depth there are none


def test_the_templates_are_as_before_afterwards():
    import torch._inductor.lowering  # noqa: F401 - the other one cannot be the first
    from torch._inductor.codegen import cpp_micro_gemm as templates

    before = dict(templates.micro_gemm_configs)
    with products.pairwise():
        assert len(templates.micro_gemm_configs) == len(before) + 1
    assert templates.micro_gemm_configs == before


def test_templates_of_another_version_keep_their_own_kernels(monkeypatch):
    monkeypatch.setitem(sys.modules, products._TEMPLATES, None)
    with products.pairwise():
        pass
