"""The target's own low-precision copy as its drafter."""

import pytest
import torch

from outpace import Decoder, registry
from outpace.cache import Session
from outpace.drafters.early_exit import EarlyExitDrafter
from outpace.drafters.quantized_self import QuantizedSelfDrafter
from outpace.errors import InvalidArgument, UnknownName, UnsupportedModel
from outpace.lengths.fixed import FixedLength
from outpace.models.precision import quantized
from outpace.models.shallow import shallow
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


@pytest.mark.parametrize("make", [QuantizedSelfDrafter, EarlyExitDrafter])
def test_it_does_not_read_the_prompt_again(make):
    target = tiny_model(context_length=2048)
    prompt = [number % 200 for number in range(700)]  # 512, 128 and 60 tokens: three forwards
    wanted = Decoder(target).generate(prompt, **REQUEST)
    drafter = make()
    decoder = Decoder(target, drafter, lengths=FixedLength(4))
    stream = decoder.stream(prompt, **REQUEST)
    next(stream)
    assert drafter.forwards == 1  # the last token but one, whose logits come with it
    list(stream)
    assert stream.output.tokens == wanted.tokens
    # another text that begins alike, and streams that take turns
    one, two = (decoder.stream([*prompt[:300], end], **REQUEST) for end in (1, 2))
    for _ in range(4):
        next(one), next(two)
    list(one), list(two)
    for end, stream in ((1, one), (2, two)):
        plain = Decoder(target).generate([*prompt[:300], end], **REQUEST)
        assert stream.output.tokens == plain.tokens


def test_the_early_exit_has_the_very_keys_and_values_it_would_compute():
    target = tiny_model(layers=3)
    seen = Session(target)
    seen.prefill(range(90), room=64)
    seen.rollback(70)
    small = Session(shallow(target, 2))
    small.adopt(seen)
    alone = Session(shallow(target, 2))
    alone.prefill(range(70))
    assert torch.equal(small.append([5, 6, 7]), alone.append([5, 6, 7]))
    assert small.tokens == alone.tokens
    # what is written there is not the target's
    assert torch.equal(seen.append([5]), _filled(target, range(70)).append([5]))


def _filled(target, tokens):
    session = Session(target)
    session.prefill(tokens)
    return session


def test_what_it_cannot_do_is_refused_at_once():
    with pytest.raises(UnknownName, match="unknown precision 'int2'"):
        QuantizedSelfDrafter("int2")
    with pytest.raises(UnsupportedModel, match="has int8 weights"):
        Decoder(quantized(tiny_model(), "int8"), QuantizedSelfDrafter())
    drafter = QuantizedSelfDrafter("int4")
    with pytest.raises(InvalidArgument, match=r"q_proj has 32 inputs .* give int8"):
        Decoder(tiny_model(), drafter)


def test_keys_and_values_are_taken_over_inside_and_outside_of_inference_mode():
    target = tiny_model()
    decoder = Decoder(target, EarlyExitDrafter(1))
    wanted = Decoder(target).generate(range(20), **REQUEST).tokens
    with torch.inference_mode():
        assert decoder.generate(range(20), **REQUEST).tokens == wanted
    assert decoder.generate(range(20), **REQUEST).tokens == wanted
    with torch.inference_mode():
        assert decoder.generate(range(20), **REQUEST).tokens == wanted
