"""What an observer is shown: the attention weights of transformers' own eager attention."""

import pytest
import torch
from torch import nn

import architectures
from outpace.cache import Session
from outpace.errors import UnsupportedModel
from outpace.models import wrap
from outpace.models.attention import slot_attention
from outpace.models.observing import observed, observer
from outpace.models.runtime import Runtime
from outpace.models.tiny import tiny_model

FAMILIES = ["llama", "gpt_neox", "gpt2", "gemma2", "gpt_oss"]
TOKENS = [int(token) for token in torch.randint(3, 101, (90,), generator=torch.manual_seed(0))]
CHUNKS = [5, 64, 1, 20]  # narrow with packed queries, padded and not; all of the text


def own(name):
    """transformers' weights, ``[H, T, T]`` a layer."""
    model = architectures.build(name)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(torch.tensor([TOKENS]), output_attentions=True, use_cache=False)
    return [layer[0] for layer in out.attentions]


def shown(model, chunks=CHUNKS):
    """The weights an observer sees, ``[H, T, T]`` a layer, and the last logits."""
    session, found = Session(model), {}

    def keep(layer, weights):
        heads, rows, slots = weights.shape
        whole = found.setdefault(layer, torch.zeros(heads, len(TOKENS), 512))
        whole[:, start : start + rows, :slots] = weights
        assert weights.dtype == torch.float32
        assert rows == chunk

    start = 0
    with observed(keep):
        for chunk in chunks:
            logits = session.append(TOKENS[start : start + chunk])
            start += chunk
    return [found[layer][..., : len(TOKENS)] for layer in sorted(found)], logits


@pytest.mark.parametrize("chunks", [CHUNKS, [90]])
@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_shown_what_transformers_itself_computes(name, chunks):
    model = wrap(architectures.build(name), name=name)
    found, expected = shown(model, chunks)[0], own(name)
    assert len(found) == len(expected) == 2
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
        # heads in another order, or rows of another place, would be noticed
        assert not torch.allclose(ours.roll(1, 0), theirs, atol=1e-2)
        assert not torch.allclose(ours.roll(1, 1), theirs, atol=1e-2)
        sums = ours.sum(-1)
        assert (sums < 0.999).any() if name == "gpt_oss" else torch.allclose(sums, sums.new_ones(1))


@pytest.mark.parametrize("name", FAMILIES)
def test_what_comes_out_is_as_before(name):
    model = wrap(architectures.build(name), name=name)
    logits = shown(model)[1]
    session = Session(model)
    for start, chunk in zip([0, 5, 69, 70], CHUNKS, strict=True):
        before = session.append(TOKENS[start : start + chunk])
    assert torch.allclose(logits, before, atol=1e-5)


def test_softcap_and_sinks_matter():
    plain = own("gemma2")
    model = architectures.build("gemma2")
    for layer in model.model.layers:
        layer.self_attn.attn_logit_softcapping = None
    uncapped = shown(wrap(model))[0]
    assert not torch.allclose(uncapped[0], plain[0], atol=1e-5)


def test_a_branch_shows_the_rows_of_its_forward():
    model, shapes = tiny_model(), []
    session = Session(model)
    session.prefill([1, 2, 3, 4, 5])
    with observed(lambda layer, weights: shapes.append((layer, weights))):
        session.branch(torch.tensor([7, 8, 9]), [-1, -1, -1], 1)
    assert [(layer, tuple(weights.shape[:2])) for layer, weights in shapes] == [
        (0, (4, 3)),
        (1, (4, 3)),
    ]
    for _, weights in shapes:
        seen = weights[0] > 0
        assert seen[:, :5].all()
        assert torch.equal(seen[:, 5:8], torch.eye(3).bool())  # siblings do not see each other
        assert not seen[:, 8:].any()


class Compiled(Runtime):
    """A runtime in which attention has no part."""

    name, traced = "compile", True

    def __init__(self):
        self.calls = 0

    def run(self, given):
        self.calls += 1
        return torch.zeros(1, 257)

    def chain(self, first, where, length, pick):
        self.calls += 1
        return torch.zeros(length, dtype=torch.int64)


def test_compiled_forwards_are_run_eagerly_meanwhile():
    model, layers = tiny_model(), []
    model.model.set_attn_implementation("sdpa")  # as a compiled model's may be
    model._runtime = compiled = Compiled()
    session = Session(model)
    session.append([1, 2, 3])
    assert compiled.calls == 1
    with observed(lambda layer, weights: layers.append(layer)):
        session.append([4, 5])
        session.draft([6], 2, lambda logits, place: logits.argmax(-1))
    assert (compiled.calls, layers) == (1, [0, 1] * 3)
    session.append([7])
    assert (compiled.calls, layers) == (2, [0, 1] * 3)


def test_it_ends_with_the_block_and_the_inner_one_is_told():
    model, outer, inner = tiny_model(), [], []

    def fail():
        with observed(lambda layer, weights: outer.append(layer)):
            with observed(lambda layer, weights: inner.append(layer)):
                Session(model).append([1, 2])
            Session(model).append([1, 2])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert observer() is None
    Session(model).append([1, 2])
    assert (outer, inner) == ([0, 1], [0, 1])


def test_a_layer_without_a_number_is_refused():
    tensors = [torch.randn(1, 4, 2, 8) for _ in range(3)]
    with observed(lambda layer, weights: None), pytest.raises(UnsupportedModel, match="layer_idx"):
        slot_attention(nn.Identity(), *tensors, torch.zeros(1, 1, 2, 2))
