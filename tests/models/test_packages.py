"""The compiled runtime, compiled for real: the same text, also across the switch to it."""

import shutil

import pytest
import torch

from outpace import Decoder
from outpace.drafters.model import ModelDrafter
from outpace.drafters.tree import TreeDrafter
from outpace.folders import CACHE_VARIABLE
from outpace.lengths.fixed import FixedLength
from outpace.models import artefacts, packages
from outpace.models.tiny import tiny_model
from outpace.testing import check_cache

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler (g++)")
REQUEST = {"max_new_tokens": 100, "ignore_eos": True}
SETTINGS = [{}, {"temperature": 0.8}, {"temperature": 0.8, "repetition_penalty": 1.2}]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """A cache of its own for the module, in which the tiny model is compiled once, in fp32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture(scope="module")
def compiled(folder):
    stages = []
    model = tiny_model()
    model.use_runtime("compile", wait=True, note=stages.append)
    assert model.runtime_note is None
    assert stages[0] == "exporting"
    assert len(stages) == 4
    return model


def test_it_is_compiled_once_and_loaded_afterwards(compiled, monkeypatch):
    monkeypatch.setattr(packages, "_package", None)  # nothing can be compiled any more
    (one,) = artefacts.artefacts()
    assert one.about["model"] == "a tiny random model"
    again = tiny_model()
    again.use_runtime("compile")
    assert (again.runtime_name, again.runtime_note) == ("compile", None)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("drafts", ["nothing", "chain", "tree", "lookup"])
def test_the_text_is_the_eager_one(compiled, settings, drafts):
    eager = tiny_model()
    wanted = Decoder(eager).generate(range(20), **REQUEST, **settings).tokens
    made = {
        "nothing": None,
        "chain": ModelDrafter(tiny_model(seed=1)),
        "tree": TreeDrafter(tiny_model(seed=1), "fixed(depth=3, branch=2)"),
        "lookup": "prompt-lookup",
    }[drafts]
    decoder = Decoder.from_pretrained(compiled, drafter=made)
    assert decoder.generate(range(20), **REQUEST, **settings).tokens == wanted


def test_a_compiled_drafter_drafts_what_the_eager_one_does(compiled):
    target, lengths = tiny_model(), FixedLength(4)
    drafts = [
        [turn.tree.lists()[0] for turn in decoder.stream(range(20), **REQUEST)]
        for decoder in (
            Decoder(target, ModelDrafter(small), lengths=lengths)
            for small in (tiny_model(), compiled)
        )
    ]
    assert drafts[0] == drafts[1]


def test_every_width_every_number_of_slots(compiled):
    check_cache(compiled, [(seed, seed % 3) for seed in range(8)])
    plain = Decoder(tiny_model())
    for length in (1, 63, 64, 65, 127, 128, 129, 300):  # prompts of so many tokens
        prompt = [7 * n % 256 for n in range(length)]
        wanted = plain.generate(prompt, max_new_tokens=8, ignore_eos=True).tokens
        assert (
            Decoder(compiled).generate(prompt, max_new_tokens=8, ignore_eos=True).tokens == wanted
        )


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_text_is_unchanged_across_the_switch(compiled, settings, monkeypatch):
    monkeypatch.setattr("outpace.models.language_model.LOOK_EVERY", 1)
    wanted = Decoder(tiny_model()).generate(range(20), **REQUEST, **settings).tokens
    for switch in (1, 7, 40):
        model = tiny_model()
        decoder = Decoder(model)
        tokens = []
        for turn in decoder.stream(range(20), **REQUEST, **settings):
            tokens += turn.tokens
            if turn.index == switch:  # as when the other process is done
                model._awaited = model.prepared()
        assert model.runtime_name == "compile"
        assert tokens == wanted


def test_a_compiled_model_of_other_weights_is_noticed_and_removed(compiled, monkeypatch):
    """The negative control of the check at load."""
    other = tiny_model(seed=5)
    monkeypatch.setattr(artefacts, "key_of", lambda about: artefacts.artefacts()[0].key)
    kept = artefacts.place_of(artefacts.artefacts()[0].key)
    copy = kept.with_name("copy")
    shutil.copytree(kept, copy)
    other.use_runtime("compile")
    assert other.runtime_name == "eager"
    assert "compiled forward differs from the model's" in other.runtime_note
    assert not kept.exists()
    copy.rename(kept)


def test_what_cannot_be_compiled_is_said(monkeypatch):
    def broken(*given):
        raise ValueError("no such kernel\nand more")

    monkeypatch.setattr(packages, "_package", broken)
    model = tiny_model(seed=3)
    model.use_runtime("compile", wait=True)
    assert model.runtime_note == (
        "a tiny random model runs eagerly: the model cannot be compiled (no such kernel)"
    )
    assert model.prepared().failure is not None
    assert not model.prepared().is_there
    assert Decoder(model).generate([1, 2], max_new_tokens=3).tokens


def test_weights_of_a_package_are_those_of_one_width(compiled):
    # one package serves all widths: two hold less than three times the weights
    (one,) = artefacts.artefacts()
    code = 2 * 4_500_000  # of the forward itself, whatever the model
    assert one.nbytes < 3 * compiled.weight_bytes + code
    assert torch.backends.mkldnn.is_available()
