"""Captured forwards and chains, by a capture that needs no GPU: same calls, same memory."""

import pytest
import torch

from outpace import Decoder
from outpace.drafters.model import ModelDrafter
from outpace.drafters.tree import TreeDrafter
from outpace.lengths.fixed import FixedLength
from outpace.models import graphs
from outpace.models.graphs import GraphRuntime
from outpace.models.tiny import tiny_model

REQUEST = {"max_new_tokens": 60, "ignore_eos": True}


def capture(function, given):
    """Run the function again over the very tensors it was captured with, into the same output."""
    with torch.inference_mode():
        out = function(*given)

        def replay():
            out.copy_(function(*given))

        return replay, out


def captured(model, **settings):
    model._runtime = GraphRuntime(model.step, capture=capture, **settings)
    return model


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.8}, {"temperature": 1.1, "top_k": 9}])
@pytest.mark.parametrize("drafts", ["chain", "tree", "lookup", "nothing"])
def test_the_text_is_that_of_eager_forwards(settings, drafts):
    eager, small = tiny_model(), tiny_model(seed=1)
    wanted = Decoder(eager).generate(range(20), **REQUEST, **settings).tokens
    target, drafter = captured(tiny_model()), captured(tiny_model(seed=1))
    made = {
        "chain": lambda model: ModelDrafter(model),
        "tree": lambda model: TreeDrafter(model, "fixed(depth=3, branch=2)"),
        "lookup": lambda model: "prompt-lookup",
        "nothing": lambda model: "none",
    }[drafts]
    length = None if drafts in {"tree", "nothing"} else 4
    decoder = Decoder.from_pretrained(target, drafter=made(drafter), draft_length=length)
    assert decoder.generate(range(20), **REQUEST, **settings).tokens == wanted
    assert target._runtime.captures > 0
    assert (
        Decoder.from_pretrained(eager, drafter=made(small), draft_length=length)
        .generate(range(20), **REQUEST, **settings)
        .tokens
        == wanted
    )


def test_a_chain_is_one_replay():
    target, small = tiny_model(), captured(tiny_model())
    replays = []
    original = GraphRuntime.chain

    def chain(self, *given):
        replays.append(original(self, *given))
        return replays[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GraphRuntime, "chain", chain)
        decoder = Decoder(target, ModelDrafter(small), lengths=FixedLength(4))
        out = decoder.generate(range(20), **REQUEST)
    assert out.stats.acceptance_rate == 1.0
    assert len(replays) == out.stats.rounds
    assert all(one is not None for one in replays)


def test_memory_of_a_text_that_has_ended_serves_the_next_one():
    model = captured(tiny_model())
    decoder = Decoder(model)
    for start in range(4):
        decoder.generate(range(start, start + 20), **REQUEST)
    (count,) = {model._runtime.captures}
    decoder.generate(range(9, 29), **REQUEST)
    assert model._runtime.captures == count
    assert count == 3  # the prompt's width, and one token's at two views
    # two texts at a time need memory of their own, or the second would overwrite the first
    first = decoder.stream(range(20), **REQUEST)
    second = decoder.stream(range(5, 25), **REQUEST)
    tokens = ([], [])
    for one, other in zip(first, second, strict=True):
        tokens[0].extend(one.tokens)
        tokens[1].extend(other.tokens)
    plain = Decoder(tiny_model())
    assert tokens[0] == plain.generate(range(20), **REQUEST).tokens
    assert tokens[1] == plain.generate(range(5, 25), **REQUEST).tokens


def test_memory_that_is_shared_by_two_texts_is_noticed(monkeypatch):
    """The negative control: one memory for all texts, and their keys are mixed up."""
    model = captured(tiny_model())
    decoder = Decoder(model)
    kept = []

    def shared(self, cache):
        if not cache.allocated:
            if not kept:
                return
            cache.hold(*kept[0])
        elif not kept:
            kept.append(cache.tensors)

    monkeypatch.setattr(GraphRuntime, "_take_memory", shared)
    decoder.generate(range(20), **REQUEST)
    first, second = decoder.stream(range(20), **REQUEST), decoder.stream(range(5, 25), **REQUEST)
    tokens = [token for one, _ in zip(first, second, strict=True) for token in one.tokens]
    assert tokens != Decoder(tiny_model()).generate(range(20), **REQUEST).tokens


def test_few_graphs_are_kept(monkeypatch):
    monkeypatch.setattr(graphs, "MOST", 2)
    model = captured(tiny_model())
    wanted = tiny_model()
    for length in (1, 3, 7, 1):
        decoder = Decoder.from_pretrained(model, drafter="prompt-lookup", draft_length=length)
        text = [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]
        assert (
            decoder.generate(text, **REQUEST).tokens
            == Decoder(wanted).generate(text, **REQUEST).tokens
        )
        assert len(model._runtime._kept) <= 2
    assert model._runtime.captures > 2


def test_a_graph_that_ignores_what_it_is_given_is_noticed():
    """The negative control of all of the above: replays of stale inputs write another text."""

    def stale(function, given):
        with torch.inference_mode():
            out = function(*[one.clone() for one in given])
        return lambda: None, out

    model = tiny_model()
    model._runtime = GraphRuntime(model.step, capture=stale)
    wanted = Decoder(tiny_model()).generate(range(20), **REQUEST).tokens
    assert Decoder(model).generate(range(20), **REQUEST).tokens != wanted
