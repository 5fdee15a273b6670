"""Packed weights: the same forward to the last bit, and the model as it was outside of it."""

import pytest
import torch
from torch import nn

from outpace import Decoder
from outpace.models import linears
from outpace.models.linears import PackedLinears, available_memory
from outpace.models.runtime import EagerRuntime
from outpace.models.tiny import tiny_model

pytestmark = pytest.mark.skipif(
    not linears._supported(), reason="this processor multiplies no bfloat16"
)


def low_model():
    model = tiny_model()
    return type(model)(model.model.to(torch.bfloat16), model.tokenizer)


def packed_products(monkeypatch):
    """Count them."""
    calls, original = [], linears._product
    monkeypatch.setattr(linears, "_product", lambda *given: calls.append(1) or original(*given))
    return calls


@pytest.mark.parametrize("shape", [(96, 64), (33, 17), (5, 640)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_the_same_to_the_last_bit(shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(shape[1], shape[0], bias=bias).to(torch.bfloat16)
    packed = PackedLinears(nn.Sequential(layer))
    for width in (1, 2, 7, 130):
        rows = torch.randn(1, width, shape[1]).to(torch.bfloat16)
        with torch.inference_mode():
            wanted = layer(rows)
            with packed.used():
                assert layer.forward.func is linears._product
                assert torch.equal(layer(rows), wanted)
        assert "forward" not in layer.__dict__


def test_the_text_is_the_unpacked_one(monkeypatch):
    model, calls = low_model(), packed_products(monkeypatch)
    request = {"max_new_tokens": 40, "ignore_eos": True}
    wanted = Decoder(model).generate(range(20), **request).tokens
    assert not calls  # weights of a model that was only wrapped may change
    model.use_runtime("eager")
    assert Decoder(model).generate(range(20), **request).tokens == wanted
    assert calls


def test_an_error_leaves_the_model_as_it_was():
    layer = nn.Linear(64, 64).to(torch.bfloat16)

    def broken(packed):
        with packed.used():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken(PackedLinears(nn.Sequential(layer)))
    assert "forward" not in layer.__dict__


def test_models_that_share_a_layer_share_what_is_packed():
    shared = nn.Linear(64, 64).to(torch.bfloat16)
    one, other = (PackedLinears(nn.Sequential(shared)) for _ in range(2))
    weights = []
    for packed in (one, other):
        with packed.used():
            weights.append(shared.forward.args[0])
    assert weights[0] is weights[1]


def test_what_is_packed_goes_with_the_runtime():
    layer = nn.Linear(64, 64).to(torch.bfloat16)
    packed = PackedLinears(nn.Sequential(layer))
    with packed.used():
        key = layer.weight.data_ptr(), layer.weight.shape
        assert key in linears._known
    del packed
    assert key not in linears._known


def test_only_plain_layers_in_bfloat16_are_packed(monkeypatch):
    class Special(nn.Linear):
        pass

    hooked = nn.Linear(64, 64).to(torch.bfloat16)
    hooked.forward = hooked.forward  # somebody's own
    others = nn.Sequential(nn.Linear(64, 64), Special(64, 64).to(torch.bfloat16), hooked)
    monkeypatch.setattr(linears, "_pack", None)  # would fail if it were asked
    with PackedLinears(others).used():
        pass
    assert "forward" in hooked.__dict__
    model = tiny_model()  # in float32
    assert isinstance(model._runtime, EagerRuntime)
    model.use_runtime("eager")
    assert Decoder(model).generate(range(5), max_new_tokens=3).tokens


def test_weights_that_would_fill_the_memory_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(linears, "available_memory", lambda: 1000.0)
    layer = nn.Linear(64, 64).to(torch.bfloat16)
    with PackedLinears(nn.Sequential(layer)).used():
        assert "forward" not in layer.__dict__


def test_memory_is_asked_of_the_system(monkeypatch, tmp_path):
    assert available_memory() > 1e6
    monkeypatch.setattr(linears, "Path", lambda name: tmp_path / "none")
    assert available_memory() == float("inf")
