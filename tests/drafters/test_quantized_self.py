"""The target's own low-precision copy as its drafter."""

import pytest
import torch

from outpace import Decoder, registry
from outpace.drafters.quantized_self import QuantizedSelfDrafter
from outpace.errors import InvalidArgument, UnknownName, UnsupportedModel
from outpace.lengths.fixed import FixedLength
from outpace.models.precision import quantized
from outpace.models.tiny import tiny_model

REQUEST = {"max_new_tokens": 60, "ignore_eos": True}


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_by_name_it_writes_the_same_text_and_is_mostly_right(temperature):
    target = tiny_model()
    request = REQUEST | {"temperature": temperature, "seed": 3}
    wanted = Decoder(target).generate(range(20), **request)
    got = Decoder.from_pretrained(target, drafter="quantized-self", draft_length=4).generate(
        range(20), **request
    )
    assert got.tokens == wanted.tokens
    assert got.stats.exact
    assert got.stats.acceptance_rate > 0.7


def test_the_copy_shares_embeddings_and_is_made_once():
    target = tiny_model(dtype=torch.bfloat16)
    drafter = registry.get("drafter", "quantized-self")()
    decoders = [Decoder(target, drafter, lengths=FixedLength(k)) for k in (2, 3)]
    model = drafter.model
    assert model.model.get_input_embeddings().weight is target.model.get_input_embeddings().weight
    assert model.tokenizer is target.tokenizer
    assert 0 < model.packed_bytes < target.weight_bytes / 2
    assert [d.generate(range(9), **REQUEST).tokens for d in decoders] == [
        Decoder(target).generate(range(9), **REQUEST).tokens
    ] * 2
    assert drafter.model is model
    with pytest.raises(InvalidArgument, match="drafts for a tiny random model already"):
        Decoder(tiny_model(seed=1), drafter)
    # the target it has goes on
    assert decoders[0].generate(range(9), **REQUEST).stats.accepted > 0


def test_what_it_cannot_do_is_refused_at_once():
    with pytest.raises(UnknownName, match="unknown precision 'int2'"):
        QuantizedSelfDrafter("int2")
    with pytest.raises(UnsupportedModel, match="has int8 weights"):
        Decoder(quantized(tiny_model(), "int8"), QuantizedSelfDrafter())
    drafter = QuantizedSelfDrafter("int4")
    with pytest.raises(InvalidArgument, match=r"q_proj has 32 inputs .* give int8"):
        Decoder(tiny_model(), drafter)
