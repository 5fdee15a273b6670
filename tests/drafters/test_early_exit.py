"""The target's own first layers as a drafter: nothing of the target changes."""

import pytest
import torch

import architectures
from outpace import Decoder
from outpace.drafters.early_exit import EarlyExitDrafter
from outpace.errors import InvalidArgument
from outpace.models import wrap
from outpace.models.shallow import shallow
from outpace.models.tiny import tiny_model

FAMILIES = ["llama", "gpt_neox", "gpt2", "qwen3", "gemma2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_text_is_plain_and_the_target_as_before(family):
    target = wrap(architectures.build(family))
    before = {name: value.clone() for name, value in target.model.state_dict().items()}
    modules = list(target.model.modules())
    ids = torch.tensor([list(range(5, 25))])
    logits = target.stock_logits(ids)
    for settings in ({}, {"temperature": 0.9, "seed": 1}):
        request = {"max_new_tokens": 40, "ignore_eos": True, **settings}
        wanted = Decoder(target).generate(range(5, 25), **request)
        got = Decoder(target, EarlyExitDrafter(1)).generate(range(5, 25), **request)
        assert got.tokens == wanted.tokens
        assert got.stats.drafted > 0
    assert list(target.model.modules()) == modules
    after = target.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(target.stock_logits(ids), logits)


def test_every_parameter_is_the_targets():
    target = tiny_model()
    small = shallow(target, 1)
    own = {p.data_ptr() for p in target.model.parameters()}
    assert {p.data_ptr() for p in small.model.parameters()} < own
    assert len(target.model.base_model.layers) == target.config.num_hidden_layers
    assert len(small.model.base_model.layers) == 1


def test_it_is_the_model_cut_short():
    target = tiny_model()
    ids = torch.tensor([[1, 2, 3, 4]])
    with target.stock() as model, torch.no_grad():
        states = model.base_model(input_ids=ids, output_hidden_states=True).hidden_states
        wanted = model.lm_head(model.base_model.norm(states[1]))
    assert torch.allclose(shallow(target, 1).stock_logits(ids), wanted, atol=1e-5)


def test_an_error_leaves_the_target_as_it_was():
    target = tiny_model()
    ids = torch.tensor([[1, 2, 3]])
    before = target.stock_logits(ids)
    decoder = Decoder(target, EarlyExitDrafter(1))
    stream = decoder.stream(range(20), max_new_tokens=30)
    next(stream)

    def fails(*args, **kwargs):
        raise RuntimeError("out of memory")

    decoder.drafter.model.model.forward = fails
    with pytest.raises(RuntimeError, match="out of memory"):
        list(stream)
    assert torch.equal(target.stock_logits(ids), before)
    assert Decoder(target).generate(range(20), max_new_tokens=5).tokens


def test_a_model_of_one_layer_cannot_be_left_early():
    with pytest.raises(InvalidArgument, match="has one layer"):
        Decoder(tiny_model(layers=1), EarlyExitDrafter())


@pytest.mark.parametrize("layers", [0, -1, 2, 99, True, 1.5])
def test_layers_out_of_range(layers):
    with pytest.raises(InvalidArgument, match=r"early exit after .* layers: .* give 1 to 1"):
        Decoder(tiny_model(layers=2), EarlyExitDrafter(layers))
