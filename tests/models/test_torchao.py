"""The layers of CUDA: what is asked of torchao and what becomes of its answer.

The wiring is tested with a stand-in for torchao; its own kernels where it is installed, int8 on the
CPU too, int4 in tests/gpu.
"""

import copy
import sys
from types import ModuleType

import pytest
import torch
from test_precision import digest, llama

from outpace import Decoder, testing
from outpace.drafters.quantized_self import QuantizedSelfDrafter
from outpace.errors import InvalidArgument, UnsupportedModel
from outpace.models import load
from outpace.models.precision import check_precision, quantized
from outpace.models.torchao_linear import TorchaoLinear

CUDA = torch.device("cuda")


class Halves(torch.Tensor):
    """What the stand-in makes of a weight: half of the bits, and a scale for each row."""

    parts: tuple[torch.Tensor, torch.Tensor]

    def __tensor_flatten__(self):
        return ["data_part", "scale_part"], {}

    @property
    def data_part(self):
        return self.parts[0]

    @property
    def scale_part(self):
        return self.parts[1]


@pytest.fixture
def asked(monkeypatch):
    """Put the stand-in where torchao would be; what it was asked for."""
    configs = []

    def config(name):
        def made(**settings):
            return name, settings

        return made

    def quantize_(layer, config):
        configs.append(config)
        weight = layer.weight
        scale = weight.abs().amax(1, keepdim=True).float() / 127
        rounded = (weight / scale).round().to(torch.int8)
        small = (rounded * scale).to(weight.dtype).as_subclass(Halves)
        small.parts = (rounded, scale)
        del layer.weight
        layer.weight = small

    package, module = ModuleType("torchao"), ModuleType("torchao.quantization")
    for name in (
        "Int8DynamicActivationInt8WeightConfig",
        "Int4WeightOnlyConfig",
        "Float8DynamicActivationFloat8WeightConfig",
    ):
        setattr(module, name, config(name))
    module.PerRow, module.quantize_ = lambda: "a row", quantize_
    package.quantization = module
    monkeypatch.setitem(sys.modules, "torchao", package)
    monkeypatch.setitem(sys.modules, "torchao.quantization", module)
    return configs


def on_cuda(model):
    """A model that says it is on a GPU; its tensors are not."""
    model.device = CUDA
    return model


@pytest.fixture
def chip(monkeypatch):
    """The compute capability of the GPU that is not there."""
    found = [(8, 9)]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: found[0])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old chip")
    return found


@pytest.mark.parametrize(
    ("precision", "head"),
    [("int8", False), ("int8", True), ("int4", False), ("fp8", False), ("fp8", True)],
)
def test_a_copy_on_cuda_asks_torchao(asked, chip, precision, head):
    model = on_cuda(llama())
    before, wanted = digest(model), model.stock_logits(torch.arange(9)[None])
    if head:  # 101 rows are no multiple of 8
        said = rf"lm_head has 64 inputs and 101 outputs, {precision}"
        with pytest.raises(InvalidArgument, match=said):
            quantized(model, precision, head=True)
        return
    small = quantized(model, precision)
    assert digest(model) == before
    assert len(asked) == 2 * 7
    assert (
        asked[0]
        == {
            "int8": (
                "Int8DynamicActivationInt8WeightConfig",
                {"granularity": "a row", "set_inductor_config": False},
            ),
            "int4": (
                "Int4WeightOnlyConfig",
                {
                    "group_size": 64,
                    "int4_packing_format": "tile_packed_to_4d",
                    "set_inductor_config": False,
                },
            ),
            "fp8": (
                "Float8DynamicActivationFloat8WeightConfig",
                {"granularity": "a row", "set_inductor_config": False},
            ),
        }[precision]
    )
    assert (small.precision, small.name) == (precision, f"a random Llama ({precision})")
    matrices = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    rows = 2 * (2 * 64 + 2 * 32 + 2 * 128 + 64)
    assert small.packed_bytes == matrices + 4 * rows
    assert small.parameters == model.parameters
    assert {p.data_ptr() for p in small.model.parameters()} < {
        p.data_ptr() for p in model.model.parameters()
    }
    got = small.stock_logits(torch.arange(9)[None])
    assert got.dtype == wanted.dtype
    assert not torch.equal(got, wanted)
    assert (got - wanted).norm() < 0.1 * wanted.norm()
    assert small.fingerprint != model.fingerprint


def test_it_drafts_and_the_text_stays(asked):
    target = llama()
    request = {"max_new_tokens": 30, "ignore_eos": True}
    wanted = Decoder(target).generate(range(20), **request)
    drafter = QuantizedSelfDrafter()
    target.device = CUDA
    drafter.attach(target)
    target.device = torch.device("cpu")
    got = Decoder(target, drafter).generate(range(20), **request)
    assert got.tokens == wanted.tokens
    assert got.stats.acceptance_rate > 0.5


@pytest.mark.parametrize(
    ("precision", "sizes", "said"),
    [
        ("int8", (16, 60), "60 inputs and 16 outputs, int8 on a GPU needs a multiple of 8 and one"),
        ("int8", (20, 64), "64 inputs and 20 outputs, int8 on a GPU needs a multiple of 8 and one"),
        ("int4", (16, 96), "96 inputs and 16 outputs, int4 on a GPU needs a multiple of 64: give"),
        (
            "fp8",
            (16, 72),
            "72 inputs and 16 outputs, fp8 on a GPU needs a multiple of 16 and one of 16",
        ),
        ("fp8", (24, 64), "64 inputs and 24 outputs, fp8 on a GPU needs a multiple of 16 and one"),
    ],
)
def test_sizes(asked, precision, sizes, said):
    with pytest.raises(InvalidArgument, match=said):
        TorchaoLinear(precision, torch.ones(sizes), None)
    assert not asked


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_fp8_is_made_from_bfloat16_alone(asked, monkeypatch, precision, dtype):
    given, module = [], sys.modules["torchao.quantization"]
    quantize = module.quantize_

    def looked(layer, config):
        given.append(layer.weight.dtype)
        quantize(layer, config)

    monkeypatch.setattr(module, "quantize_", looked)
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    layer = TorchaoLinear(precision, weight, torch.ones(32, dtype=dtype))
    assert given == [torch.bfloat16 if precision == "fp8" else dtype]
    rows = torch.eye(64, dtype=dtype)[:5]
    wanted = rows.float() @ weight.float().t() + 1
    assert layer(rows).dtype == dtype
    assert (layer(rows).float() - wanted).norm() < 0.02 * wanted.norm()
    assert layer.precision == precision


def test_fp8_needs_a_chip_that_has_it(asked, chip, tmp_path):
    check_precision("fp8", CUDA)
    chip[0] = (9, 0)
    check_precision("fp8", CUDA)
    chip[0] = (8, 6)
    check_precision("int8", CUDA)  # the others do not ask
    said = (
        "precision fp8 on an old chip: its compute capability is 8.6, fp8 needs 8.9 or more: give "
        "int8"
    )
    for call in (
        lambda: check_precision("fp8", CUDA),
        lambda: quantized(on_cuda(llama()), "fp8"),
    ):
        with pytest.raises(InvalidArgument) as refusal:
            call()
        assert str(refusal.value) == said
    assert not asked


def test_fp8_is_not_for_the_processor(tmp_path):
    said = "precision fp8 on cpu: it is made for cuda: give device cuda, or dtype bfloat16"
    for call in (
        lambda: check_precision("fp8", torch.device("cpu")),
        lambda: quantized(llama(), "fp8"),
        lambda: load(tmp_path / "nowhere", dtype="fp8", device="cpu"),  # before anything is read
    ):
        with pytest.raises(InvalidArgument) as refusal:
            call()
        assert str(refusal.value) == said


def test_a_gpu_that_is_too_old(asked, monkeypatch):
    def refuse(layer, config):
        raise ValueError("Cannot use tinygemm\nat all")

    monkeypatch.setattr(sys.modules["torchao.quantization"], "quantize_", refuse)
    with pytest.raises(InvalidArgument) as refusal:
        quantized(on_cuda(llama()), "int4")
    assert str(refusal.value) == (
        "a random Llama: layer model.layers.0.self_attn.q_proj has weights that torchao cannot "
        "pack in int4 (Cannot use tinygemm): give dtype bfloat16"
    )


def test_a_kernel_that_fails(asked, monkeypatch):
    def refuse(self, x):
        raise RuntimeError("no kernel image\nat all")

    monkeypatch.setattr(TorchaoLinear, "forward", refuse)
    with pytest.raises(UnsupportedModel, match=r"does not run in int8 \(no kernel image\): give"):
        quantized(on_cuda(llama()), "int8")


@pytest.mark.parametrize("precision", ["int8", "int4", "fp8"])
def test_without_torchao(monkeypatch, chip, precision, tmp_path):
    monkeypatch.setitem(sys.modules, "torchao", None)
    said = f"precision {precision} on cuda needs torchao: pip install torchao"
    with pytest.raises(InvalidArgument) as refusal:
        check_precision(precision, CUDA)
    assert str(refusal.value) == said
    module = sys.modules["outpace.models.load"]
    monkeypatch.setattr(module, "resolve_device", lambda _: CUDA)
    with pytest.raises(InvalidArgument) as refusal:  # before anything is read
        load(tmp_path / "nowhere", dtype=precision)
    assert str(refusal.value) == said
    with pytest.raises(InvalidArgument) as refusal:
        QuantizedSelfDrafter(precision).attach(on_cuda(llama()))
    assert str(refusal.value) == said


@pytest.mark.parametrize("missing", [True, False])
def test_an_old_torchao(asked, monkeypatch, missing):
    module = sys.modules["torchao.quantization"]
    if missing:
        monkeypatch.delattr(module, "Int8DynamicActivationInt8WeightConfig")
    else:
        monkeypatch.setattr(module, "Int8DynamicActivationInt8WeightConfig", lambda: None)
    with pytest.raises(InvalidArgument, match=r"0\.18 or newer: pip install --upgrade torchao"):
        check_precision("int8", CUDA)


@pytest.mark.filterwarnings("ignore")  # of torchao's own import
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_real_int8_is_near(dtype):
    pytest.importorskip("torchao.quantization")
    weight = torch.randn(48, 128, generator=torch.Generator().manual_seed(0)) * 0.1
    bias = torch.linspace(-1, 1, 48).to(dtype)
    layer = TorchaoLinear("int8", weight.to(dtype), bias)
    rows = torch.randn(16, 128, generator=torch.Generator().manual_seed(1)).to(dtype)
    wanted = rows.float() @ weight.t() + bias.float()
    assert layer(rows).dtype == dtype
    assert (layer(rows).float() - wanted).norm() < 0.02 * wanted.norm()
    assert layer.packed_bytes < 48 * 128 + 8 * 48
    assert not list(layer.parameters())


@pytest.mark.filterwarnings("ignore")
def test_a_real_copy_works():
    pytest.importorskip("torchao.quantization")
    model = on_cuda(llama(dtype=torch.bfloat16))
    before, wanted = digest(model), model.stock_logits(torch.arange(9)[None])
    small = quantized(model, "int8")
    assert digest(model) == before
    got = small.stock_logits(torch.arange(9)[None])
    assert (got - wanted).norm() < 0.1 * wanted.norm()
    assert small.weight_bytes < model.weight_bytes
    with small.stock() as stock:
        wide = copy.deepcopy(stock).to(torch.float32)
    assert wide(torch.arange(9)[None]).logits.dtype == torch.float32
    testing.check_cache(small, [(seed, 3) for seed in range(3)], tolerance=0.3)
