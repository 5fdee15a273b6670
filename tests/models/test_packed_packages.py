"""Compiled models in int8 and int4: near the eager ones, silent, rows on their own."""

import shutil

import pytest
import torch

from outpace import Decoder
from outpace.folders import CACHE_VARIABLE
from outpace.models import int8_linear
from outpace.models.int8_linear import Int8Linear, SmallInt8Linear
from outpace.models.precision import quantized
from outpace.models.probe import agreement
from outpace.zoo.synthetic import synthetic_pair

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler (g++)")


# one of them has products that the compiler would join: queries, keys and values apart
@pytest.mark.parametrize(("precision", "shape"), [("int8", "tiny"), ("int4", "tiny-llama")])
def test_a_quantised_model_is_compiled(precision, shape, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(int8_linear, "SMALL", 64 * 64)  # so that there are layers of both kinds
    wide = synthetic_pair(shape, 0.75, "bfloat16", "cpu", 0)[0]
    model = quantized(wide, precision)
    kinds = {type(layer) for layer in model.model.modules()}
    assert precision != "int8" or {Int8Linear, SmallInt8Linear} < kinds
    text = [5, 6, 7, 5, 6, 7, 5, 6]
    request = {"max_new_tokens": 24, "ignore_eos": True}
    wanted = Decoder(model).generate(text, **request).tokens
    model.use_runtime("compile", wait=True)
    assert (model.runtime_name, model.runtime_note) == ("compile", None)
    assert capfd.readouterr().err == ""
    assert Decoder(model).generate(text, **request).tokens == wanted
    drafted = Decoder.from_pretrained(model, drafter="prompt-lookup", runtime="compile")
    assert drafted.generate(text, **request).tokens == wanted
    # as near to the eager model as rounding goes, and not as another precision
    deviation, _ = agreement(model, model._runtime)
    assert deviation < 0.1
    assert {type(layer) for layer in model.model.modules()} == kinds
    beside = [_first_row(model, others) for others in ([1, 2, 3], [900, 7, 512])]
    assert torch.equal(*beside)


def _first_row(model, others):
    """Return the logits of a token beside others that it does not see, by either package."""
    found = []
    for edge in (64, 0):
        model._runtime._last_narrow = edge
        cache, held = model.new_cache(64), torch.full((64,), -1)
        where = torch.stack([torch.zeros(4, dtype=torch.int64), torch.arange(4)])
        seen = torch.eye(4, dtype=torch.bool)
        found.append(model.forward(torch.tensor([9, *others]), where, seen, held, cache, 64)[0])
    return torch.cat(found)
