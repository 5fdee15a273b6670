"""The layers of bitsandbytes, and checkpoints that were stored by it."""

import logging
import sys

import pytest
import torch
from test_precision import digest, llama
from torch import nn

from outpace import Decoder, testing
from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.errors import InvalidArgument, UnsupportedModel
from outpace.lengths.fixed import FixedLength
from outpace.models import load
from outpace.models.bitsandbytes_linear import BitsandbytesLinear
from outpace.models.footprint import footprint
from outpace.models.load import _CASTS
from outpace.models.precision import check_precision, quantized

pytest.importorskip("bitsandbytes")
pytest.importorskip("accelerate")

CPU = torch.device("cpu")
NEAR = {"bnb-int8": 0.02, "nf4": 0.12}
MATRICES = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
ROWS = 2 * (2 * 64 + 2 * 32 + 2 * 128 + 64)
REQUEST = {"max_new_tokens": 24, "ignore_eos": True}
TEXT = [5, 6, 7, 5, 6, 7, 5, 6]


@pytest.fixture
def weight():
    return torch.randn(48, 128, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.fixture
def rows():
    return torch.randn(16, 128, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """From a kind to the folder of a checkpoint that transformers has stored so."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    place = tmp_path_factory.mktemp("stored")
    llama().model.save_pretrained(place / "plain")
    configs = {
        "nf4": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
        "int8": BitsAndBytesConfig(load_in_8bit=True),
    }
    for name, config in configs.items():
        AutoModelForCausalLM.from_pretrained(
            place / "plain",
            quantization_config=config,
            dtype=torch.bfloat16,
            device_map={"": "cpu"},
        ).save_pretrained(place / name)
    return place


@pytest.fixture
def casts():
    """The logger that bitsandbytes complains by, which loading makes silent."""
    logger = logging.getLogger(_CASTS)
    before = logger.level
    logger.setLevel(logging.NOTSET)
    yield logger
    logger.setLevel(before)


def reachable(thing, seen):
    """Put the storages of all tensors that can be reached from an object into ``seen``."""
    if id(thing) in seen or isinstance(thing, type | str | int | float):
        return
    seen[id(thing)] = thing
    if isinstance(thing, dict):
        inner = list(thing.values())
    elif isinstance(thing, list | tuple | set):
        inner = list(thing)
    elif isinstance(thing, nn.Module | torch.Tensor) or "bitsandbytes" in type(thing).__module__:
        inner = list(vars(thing).values())
    else:
        inner = []
    for one in inner:
        reachable(one, seen)


def walked(model):
    """The bytes of everything a model holds but what is computed anew, found by walking it."""
    seen = {}
    reachable(model.model, seen)
    computed = {
        id(buffer)
        for module in model.model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name in module._non_persistent_buffers_set
    }
    # the rotary embedding keeps a second name of its frequencies
    computed |= {id(one.original_inv_freq) for one in model.model.modules() if _rotary(one)}
    # and int8 remembers which features of the last rows were large
    computed |= {id(one.state.idx) for one in model.model.modules() if hasattr(one, "state")}
    storages = {}
    for number, one in seen.items():
        if isinstance(one, torch.Tensor) and number not in computed:
            storage = one.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _rotary(module):
    return hasattr(module, "original_inv_freq")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", NEAR)
def test_a_layer_is_near_the_float_one(kind, dtype, weight, rows):
    bias = torch.linspace(-1, 1, 48).to(dtype)
    layer = BitsandbytesLinear(kind, weight.to(dtype), bias)
    wanted = rows @ weight.t() + bias.float()
    got = layer(rows.to(dtype))
    assert got.dtype == dtype
    assert 0 < (got.float() - wanted).norm() < NEAR[kind] * wanted.norm()
    assert layer.bias is bias
    assert layer(rows.to(dtype).view(2, 8, 128)).shape == (2, 8, 48)
    assert not list(layer.parameters())
    assert layer.packed_numel == 48 * 128
    assert layer.packed_bytes >= 48 * 128 * {"nf4": 0.5, "bnb-int8": 1.0}[kind]
    assert torch.equal(layer.first, weight.to(dtype).flatten()[:64].float())


def test_a_row_of_nf4_is_alone_and_one_of_int8_is_not(weight, rows):
    rows[1, 3] = 20.0  # passes the threshold: in int8 feature 3 of all rows goes to 16 bits
    for kind, same in (("nf4", True), ("bnb-int8", False)):
        layer = BitsandbytesLinear(kind, weight, None)
        beside, alone = layer(rows)[:1], layer(rows[:1])
        assert layer.rows_alone is same
        assert ((beside - alone).norm() < 1e-5 * alone.norm()) == same


def test_sizes(weight):
    with pytest.raises(InvalidArgument) as refusal:
        BitsandbytesLinear("nf4", weight[:, :96], None)
    assert str(refusal.value) == "96 inputs and 48 outputs, nf4 needs a multiple of 64: give int8"
    assert BitsandbytesLinear("bnb-int8", weight[:, :96], None).packed_numel == 48 * 96


@pytest.mark.parametrize(("kind", "bits"), [("bnb-int8", 8), ("nf4", 4)])
def test_a_copy(kind, bits):
    model = llama(dtype=torch.bfloat16)
    before, ids = digest(model), torch.arange(9)[None]
    wanted = model.stock_logits(ids)
    small = quantized(model, kind)
    assert digest(model) == before
    assert (small.precision, small.name) == (kind, f"a random Llama ({kind})")
    assert small.is_quantized
    assert not model.is_quantized
    assert small.rows_alone is (kind == "nf4")
    assert model.rows_alone
    assert small.parameters == model.parameters
    assert small.fingerprint != model.fingerprint
    got = small.stock_logits(ids)
    assert not torch.equal(got, wanted)
    assert (got - wanted).norm() < 4 * NEAR[kind] * wanted.norm()
    assert MATRICES * bits // 8 < small.packed_bytes
    assert small.weight_bytes == model.weight_bytes - 2 * MATRICES + small.packed_bytes
    with pytest.raises(UnsupportedModel, match=rf"has {kind} weights: quantise the model"):
        quantized(small, "int8")


def test_the_cache_over_nf4():
    testing.check_cache(quantized(llama(), "nf4"), [(seed, 3) for seed in range(3)], tolerance=1e-3)


@pytest.mark.parametrize("kind", NEAR)
def test_without_bitsandbytes(kind, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    said = f"precision {kind} needs bitsandbytes: pip install 'outpace[bitsandbytes]'"
    for call in (
        lambda: check_precision(kind, CPU),
        lambda: quantized(llama(), kind),
        lambda: load(tmp_path / "nowhere", dtype=kind, device="cpu"),  # before anything is read
        lambda: BitsandbytesLinear(kind, torch.ones(64, 64), None),
    ):
        with pytest.raises(InvalidArgument) as refusal:
            call()
        assert str(refusal.value) == said
    check_precision(kind)  # that there is one by this name


@pytest.mark.parametrize(("name", "alone"), [("nf4", True), ("int8", False)])
def test_what_a_stored_checkpoint_says_of_itself(stored, name, alone, casts):
    model, wide = load(stored / name, device="cpu"), llama(dtype=torch.bfloat16)
    assert model.precision == f"bitsandbytes {name}"
    assert model.source == (str(stored / name), "bfloat16")
    assert model.is_quantized
    assert model.rows_alone is alone
    assert model.parameters == wide.parameters  # nf4 has two in a byte
    assert model.dtype == torch.bfloat16
    assert model.fingerprint == load(stored / name, device="cpu").fingerprint
    ids = torch.arange(9)[None]
    wanted = wide.stock_logits(ids)
    got = model.stock_logits(ids)
    assert 0 < (got - wanted).norm() < 0.5 * wanted.norm()


@pytest.mark.parametrize(("name", "bits"), [("nf4", 4), ("int8", 8)])
def test_the_footprint_of_a_stored_checkpoint(stored, name, bits, casts):
    model, wide = load(stored / name, device="cpu"), llama(dtype=torch.bfloat16)
    assert model.weight_bytes == footprint(model.model) == walked(model)
    before = model.weight_bytes
    model.stock_logits(torch.arange(9)[None])
    assert model.weight_bytes == before == walked(model)
    scales = 4 * ROWS if name == "int8" else None
    least = wide.weight_bytes - 2 * MATRICES + MATRICES * bits // 8
    assert before > least  # scales count
    if scales is not None:
        assert before == least + scales
    assert walked(wide) == wide.weight_bytes


def test_scales_count_before_and_after_the_first_forward():
    from bitsandbytes.nn import Int8Params, Linear8bitLt

    layer = Linear8bitLt(64, 32, bias=False, has_fp16_weights=False, threshold=6.0)
    layer.weight = Int8Params(torch.randn(32, 64), requires_grad=False).to("cpu")
    assert footprint(layer) == 32 * 64 + 4 * 32
    layer.eval()(torch.randn(1, 64, dtype=torch.float16))
    assert layer.weight.SCB is None  # it has gone elsewhere
    assert footprint(layer) == 32 * 64 + 4 * 32


def test_drafts_do_not_change_the_text_of_nf4(stored):
    target = load(stored / "nf4", device="cpu")
    plain = Decoder(target).generate(TEXT, **REQUEST)
    drafted = Decoder(target, PromptLookupDrafter(), lengths=FixedLength(4))
    got = drafted.generate(TEXT, **REQUEST)
    assert got.stats.drafted > 0
    assert got.tokens == plain.tokens
    assert len(got.tokens) == 24
    assert drafted.exact
    assert got.stats.exact


@pytest.mark.parametrize("made", ["stored", "copied"])
def test_exact_says_that_drafts_change_rows_that_are_not_alone(stored, made, casts):
    if made == "stored":
        target = load(stored / "int8", device="cpu")
    else:
        target = quantized(llama(), "bnb-int8")
    plain = Decoder(target)
    drafted = Decoder(target, PromptLookupDrafter(), lengths=FixedLength(4))
    assert plain.exact
    assert plain.generate(TEXT, **REQUEST).stats.exact
    assert not drafted.exact
    assert not drafted.generate(TEXT, **REQUEST).stats.exact
    assert Decoder(llama(), PromptLookupDrafter()).exact  # the drafter is not the reason


@pytest.mark.parametrize("name", ["nf4", "int8"])
def test_a_stored_checkpoint_has_no_other_precision(stored, name):
    with pytest.raises(UnsupportedModel) as refusal:
        load(stored / name, dtype="int8", device="cpu")
    assert str(refusal.value) == (
        f"{stored / name} was stored in bitsandbytes {name}, it cannot be made int8: give dtype "
        "bfloat16, in which everything else of it is, or another checkpoint"
    )
    with pytest.raises(UnsupportedModel, match="quantise the model it was made from"):
        quantized(load(stored / name, device="cpu"), "int8")


def test_what_a_stored_checkpoint_lacks_is_named(stored, monkeypatch):
    def without(*args, **settings):
        raise ImportError("Using `bitsandbytes` requires accelerate. And more.\nAnd more.")

    module = sys.modules["outpace.models.load"]
    monkeypatch.setattr(module.AutoModelForCausalLM, "from_pretrained", without)
    with pytest.raises(UnsupportedModel) as refusal:
        load(stored / "nf4", device="cpu")
    assert str(refusal.value) == (
        f"{stored / 'nf4'} was stored in bitsandbytes nf4: Using `bitsandbytes` requires "
        "accelerate: install what it needs, as pip install 'outpace[bitsandbytes]'"
    )


def test_casts_to_float16_are_not_reported_at_every_product(stored, casts, caplog, capfd):
    model = load(stored / "int8", device="cpu")
    model.stock_logits(torch.arange(9)[None])
    assert not [one for one in caplog.records if one.name.startswith("bitsandbytes")]
    assert capfd.readouterr() == ("", "")
    casts.setLevel(logging.NOTSET)  # what is there to be silenced
    model.stock_logits(torch.arange(9)[None])
    assert any("cast" in one.getMessage() for one in caplog.records if one.name == _CASTS)


def test_other_checkpoints_leave_that_logger_alone(stored, casts):
    load(stored / "nf4", device="cpu")
    load(stored / "plain", device="cpu")
    assert casts.level == logging.NOTSET
