"""Quantised copies: near the model, the same at every width, and the model left alone."""

import copy
import hashlib

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from outpace import Decoder, testing
from outpace.errors import InvalidArgument, UnknownName, UnsupportedModel
from outpace.models import LanguageModel, artefacts, load, precision, preparing, wrap
from outpace.models import int8_linear as int8_linear_module
from outpace.models.int4_linear import Int4Linear
from outpace.models.int8_linear import (
    ExportedInt8Linear,
    Int8Linear,
    SmallInt8Linear,
    int8_linear,
)
from outpace.models.packed_products import exportable
from outpace.models.precision import check_precision, quantized
from outpace.models.tiny import tiny_model

LAYERS = {"int8": Int8Linear, "small-int8": SmallInt8Linear, "int4": Int4Linear}
# relative error of one product, in the Frobenius norm: half a step of 1/127 or 1/15 of a range
NEAR = {"int8": 0.02, "small-int8": 0.01, "int4": 0.15}


def llama(*, seed: int = 0, tied: bool = False, dtype=torch.float32) -> LanguageModel:
    """A random model whose sizes int4 can take."""
    config = LlamaConfig(
        vocab_size=101,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        tie_word_embeddings=tied,
        attention_bias=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval().to(dtype)
    return wrap(model, name="a random Llama")


def digest(model: LanguageModel) -> str:
    found = hashlib.sha256(repr(model.model).encode())
    found.update(model.model.config.to_json_string().encode())
    for name, tensor in model.model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.float().numpy().tobytes())
    return found.hexdigest()


@pytest.fixture
def weight():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(48, 128, generator=generator) * 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
def test_a_row_does_not_depend_on_the_others(name, dtype, weight):
    bias = torch.linspace(-1, 1, 48).to(dtype)
    layer = LAYERS[name](weight.to(dtype), bias)
    rows = torch.randn(64, 128, generator=torch.Generator().manual_seed(1))
    rows = (rows * torch.logspace(-3, 3, 64)[:, None]).to(dtype)  # of very different sizes
    rows[5] = 0
    alone = torch.cat([layer(row[None]) for row in rows])
    for width in (2, 3, 4, 8, 16, 32, 64):
        for start in range(0, 64, width):
            some = slice(start, start + width)
            assert torch.equal(layer(rows[some]), alone[some])
    assert torch.equal(layer(rows.flip(0)), alone.flip(0))
    assert torch.equal(layer(rows.view(2, 32, 128)), alone.view(2, 32, 48))
    assert torch.equal(alone[5], bias)
    assert alone.dtype == dtype


def test_one_scale_for_all_rows_would_depend_on_them(weight):
    # what the scaling by row is there for
    layer = Int8Linear(weight, None)
    rows = torch.randn(8, 128, generator=torch.Generator().manual_seed(1))
    rows[1] *= 100
    dynamic = torch.ops.quantized.linear_dynamic
    assert not torch.equal(dynamic(rows, layer._packed)[:1], dynamic(rows[:1], layer._packed))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_near_the_float_one(name, weight):
    layer = LAYERS[name](weight, None)
    rows = torch.randn(32, 128, generator=torch.Generator().manual_seed(1))
    wanted = rows @ weight.t()
    assert (layer(rows) - wanted).norm() < NEAR[name] * wanted.norm()
    assert torch.isnan(layer(rows * torch.nan)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["int8", "small-int8"])
def test_what_is_exported_computes_the_same(name, dtype, weight):
    layer = LAYERS[name](weight.to(dtype), torch.linspace(-1, 1, 48).to(dtype))
    rows = torch.randn(2, 32, 128, generator=torch.Generator().manual_seed(1)).to(dtype)
    rows[0, 5] = 0
    got, wanted = layer.exported()(rows), layer(rows)
    assert (got.dtype, got.shape) == (dtype, wanted.shape)
    # far nearer to one another than to the float product: the same numbers, rounded otherwise
    near = 1e-5 if dtype == torch.float32 else 5e-3
    assert (got - wanted).norm() < near * wanted.norm()


def test_layers_stand_aside_for_the_export_alone():
    small = quantized(llama(tied=True), "int8")
    before = dict(small.model.named_modules())
    with exportable(small.model):
        within = list(small.model.modules())
        assert not any(isinstance(one, Int8Linear | SmallInt8Linear) for one in within)
        assert sum(isinstance(one, ExportedInt8Linear) for one in within) == 14
    assert dict(small.model.named_modules()) == before


@pytest.mark.parametrize(("kind", "limit"), [("int8", 0), ("int8", 2**20), ("int4", 0)])
def test_all_packed_weights_are_in_the_identity(kind, limit, monkeypatch):
    monkeypatch.setattr(int8_linear_module, "SMALL", limit)
    models = [llama(), llama(), llama()]
    with torch.no_grad():
        weight = models[2].model.model.layers[1].mlp.up_proj.weight
        # two rows change places, far from the first weights
        weight[[90, 91]] = weight[[91, 90]]
    small = [quantized(model, kind) for model in models]
    assert len({one.fingerprint for one in small}) == 1
    keys = [artefacts.key_of(artefacts.identity(one)) for one in small]
    assert keys[0] == keys[1] != keys[2]


def test_weights_that_are_not_compiled_are_said_at_once(monkeypatch):
    monkeypatch.setattr(preparing, "compile_packages", None)
    monkeypatch.setattr(artefacts, "identity", None)
    small = quantized(llama(), "int8")
    monkeypatch.setattr(SmallInt8Linear, "compiles", False)
    small.use_runtime("compile", wait=True)
    assert small.runtime_note == (
        "a random Llama (int8) runs eagerly: weights in int8 are not compiled on a CPU"
    )
    stored = llama()
    stored.model.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    stored.use_runtime("compile", wait=True)
    assert "weights in bitsandbytes int8 are not compiled on a CPU" in stored.runtime_note


@pytest.mark.parametrize(
    ("outputs", "inputs", "kind"),
    [
        (1024, 1024, SmallInt8Linear),
        (1025, 1024, Int8Linear),
        (7, 16, SmallInt8Linear),
        (7, 24, Int8Linear),  # the small layer's kernel would read past the end
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_int8_has_a_layer_for_small_matrices(outputs, inputs, kind, dtype):
    matrix = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0)).to(dtype)
    layer = int8_linear(matrix, None)
    assert type(layer) is kind
    assert layer.packed_numel == matrix.numel()
    assert matrix.numel() < layer.packed_bytes < matrix.numel() + 9 * outputs
    rows = torch.randn(3, inputs, generator=torch.Generator().manual_seed(1)).to(dtype)
    wanted = rows.float() @ matrix.float().t()
    assert (layer(rows) - wanted).norm() < 0.02 * wanted.norm()


def test_processors_without_wide_products_get_smaller_activations(weight, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    layer = Int8Linear(weight, None)
    assert layer.levels == 63
    # two products of the largest values fit into 16 bits
    assert (2 * layer.levels + 1) * 127 * 2 < 2**15
    rows = torch.randn(32, 128, generator=torch.Generator().manual_seed(1))
    wanted = rows @ weight.t()
    assert (layer(rows) - wanted).norm() < 2 * NEAR["int8"] * wanted.norm()


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_a_copy_is_near_and_shares_the_rest(tied, head):
    model = llama(tied=tied)
    before, ids = digest(model), torch.arange(40)[None]
    wanted = model.stock_logits(ids)
    small = quantized(model, "int8", head=head)
    got = small.stock_logits(ids)
    assert digest(model) == before
    assert torch.equal(model.stock_logits(ids), wanted)
    assert model.model.config._attn_implementation == "sdpa"
    assert (got - wanted).norm() < 0.1 * wanted.norm()
    assert not torch.equal(got, wanted)
    ours = {p.data_ptr() for p in model.model.parameters()}
    assert {p.data_ptr() for p in small.model.parameters()} < ours
    assert small.model.model.embed_tokens.weight is model.model.model.embed_tokens.weight
    assert isinstance(small.model.lm_head, SmallInt8Linear) == head
    assert small.vocabulary == model.vocabulary


def test_bytes_names_and_fingerprints():
    model = llama(dtype=torch.bfloat16)
    small = {name: quantized(model, name) for name in precision.ON_CPU}
    matrices = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    assert model.packed_bytes == 0
    for name, bits in (("int8", 8), ("int4", 4)):
        one = small[name]
        assert one.name == f"a random Llama ({name})"
        assert one.precision == name
        assert one.parameters == model.parameters
        assert matrices * bits // 8 < one.packed_bytes < 1.2 * matrices * bits // 8
        assert one.weight_bytes == model.weight_bytes - 2 * matrices + one.packed_bytes
    assert model.precision == "bfloat16"
    assert len({one.fingerprint for one in (model, *small.values())}) == 3
    other = quantized(llama(seed=1, dtype=torch.bfloat16), "int8")
    assert other.fingerprint != small["int8"].fingerprint
    assert quantized(model, "int8").fingerprint == small["int8"].fingerprint
    with small["int4"].stock() as stock:  # differences are judged on such a copy
        assert stock.config._attn_implementation == "sdpa"
        wide = copy.deepcopy(stock).to(torch.float32)
    assert wide(torch.arange(9)[None]).logits.dtype == torch.float32
    with small["int8"].stock() as stock:
        again = LanguageModel(copy.deepcopy(stock))
    ids = torch.arange(9)[None]
    assert torch.equal(again.stock_logits(ids), small["int8"].stock_logits(ids))


@pytest.mark.parametrize("family", ["gpt_neox", "gpt2", "gemma2", "gemma3", "phi3", "gpt_oss"])
def test_families(pair, family):
    model = pair(family)[0]
    before = digest(model)
    ids = torch.arange(3, 40)[None]
    wanted, got = model.stock_logits(ids), quantized(model, "int8").stock_logits(ids)
    assert digest(model) == before
    # a router of experts may choose another one
    assert (got - wanted).norm() < (1.0 if family == "gpt_oss" else 0.15) * wanted.norm()


def test_int4_names_the_layer_it_cannot_have():
    model = tiny_model()
    before = digest(model)
    with pytest.raises(InvalidArgument) as refusal:
        quantized(model, "int4")
    assert str(refusal.value) == (
        "a tiny random model: layer model.layers.0.self_attn.q_proj has 32 inputs and 32 outputs, "
        "int4 needs a multiple of 64 and one of 16: give int8"
    )
    assert digest(model) == before
    with pytest.raises(InvalidArgument, match=r"64 inputs and 20 outputs"):
        Int4Linear(torch.ones(20, 64), None)


def test_an_error_on_the_way_leaves_the_model_alone(monkeypatch):
    model = llama()
    before, wanted = digest(model), model.stock_logits(torch.arange(9)[None])
    made = []

    def failing(weight, bias):
        made.append(Int8Linear(weight, bias))
        if len(made) == 5:
            raise RuntimeError("out of memory")
        return made[-1]

    monkeypatch.setitem(precision.ON_CPU, "int8", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        quantized(model, "int8")
    assert digest(model) == before
    assert torch.equal(model.stock_logits(torch.arange(9)[None]), wanted)


def test_what_cannot_be_had_is_refused(monkeypatch):
    with pytest.raises(
        UnknownName, match="unknown precision 'int3': choose one of int8, int4, fp8, bnb-int8, nf4"
    ):
        quantized(llama(), "int3")
    with pytest.raises(UnsupportedModel, match=r"\(int8\) has int8 weights: quantise the model"):
        quantized(quantized(llama(), "int8"), "int8")
    with pytest.raises(InvalidArgument, match=r"int8 on mps: it is made for cpu and cuda: give"):
        check_precision("int8", torch.device("mps"))
    monkeypatch.setattr(SmallInt8Linear, "forward", None)
    with pytest.raises(UnsupportedModel, match="a random Llama does not run in int8"):
        quantized(llama(), "int8")


def test_a_target_by_name(tmp_path):
    model = llama()
    model.model.save_pretrained(tmp_path)
    small = load(tmp_path, dtype="int8", device="cpu")
    assert small.name == f"{tmp_path} (int8)"
    assert small.dtype == torch.bfloat16
    # another target, decoded exactly: what drafts for it does not change its text
    text = [5, 6, 7, 5, 6, 7, 5, 6]
    request = {"max_new_tokens": 32, "ignore_eos": True}
    plain = Decoder.from_pretrained(small, drafter="none").generate(text, **request)
    for drafter in ("prompt-lookup", model):
        got = Decoder.from_pretrained(small, drafter=drafter).generate(text, **request)
        assert got.tokens == plain.tokens


def test_the_cache_over_a_quantised_model():
    # roundings may flip where the last bits of the attention differ
    testing.check_cache(
        quantized(llama(), "int4"), [(seed, 3) for seed in range(6)], tolerance=1e-3
    )
