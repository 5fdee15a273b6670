"""Which runtime a model gets, what is said where it cannot be had, and what is kept on disk."""

import os
import subprocess

import pytest
import torch

from outpace.errors import InvalidArgument, RuntimeUnavailable, UnknownName
from outpace.folders import CACHE_VARIABLE
from outpace.models import artefacts, choosing, load, packages, preparing
from outpace.models.runtime import EagerRuntime
from outpace.models.tiny import tiny_model


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.delenv(choosing.VARIABLE, raising=False)
    return tmp_path / "compiled"


def test_unknown_names_are_refused(monkeypatch):
    with pytest.raises(UnknownName, match="runtime 'fast': choose one of auto, eager"):
        tiny_model().use_runtime("fast")
    monkeypatch.setenv(choosing.VARIABLE, "fast")
    with pytest.raises(UnknownName, match="OUTPACE_RUNTIME 'fast'"):
        tiny_model().use_runtime("auto")


def test_graphs_on_a_cpu_run_eagerly_and_say_why():
    model = tiny_model()
    model.use_runtime("graph")
    assert model.runtime_name == "eager"
    assert model.runtime_note == (
        "a tiny random model runs eagerly: graphs are CUDA's, the model is on cpu"
    )
    model.use_runtime("eager")
    assert model.runtime_note is None


def test_a_load_by_name_warns_once_of_what_it_cannot_have():
    with pytest.warns(UserWarning, match="graphs are CUDA's") as caught:
        assert load("zoo:small", runtime="graph").runtime_name == "eager"
    assert len(caught) == 1
    with pytest.raises(UnknownName):
        load("zoo:small", runtime="fast")


def test_the_setting_decides_what_auto_means(monkeypatch):
    monkeypatch.setenv(choosing.VARIABLE, "eager")
    model = tiny_model()
    model.use_runtime("auto")
    assert (model.runtime_name, model.runtime_note) == ("eager", None)


def test_without_a_compiler_it_runs_eagerly_and_says_so(monkeypatch):
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    model = tiny_model()
    for wait in (True, False):
        model.source = ("zoo:small", "float32")
        model.use_runtime("compile", wait=wait)
        assert model.runtime_name == "eager"
        assert "no C++ compiler here: install g++" in model.runtime_note


def test_a_wrapped_model_cannot_be_compiled_elsewhere():
    model = tiny_model()
    model.use_runtime("compile")
    assert "was not loaded by name" in model.runtime_note


def test_the_background_process_is_told_which_model_and_started_once(monkeypatch):
    started = []
    monkeypatch.setattr(
        preparing.subprocess, "Popen", lambda line, **how: started.append((line, how))
    )
    model = tiny_model()
    model.source = ("some/model", "float32")
    model.use_runtime("compile")
    ((line, how),) = started
    assert line[1:] == [
        "-m",
        "outpace.models.preparing",
        "some/model",
        "float32",
        str(torch.get_num_threads()),
    ]
    assert how["start_new_session"]
    assert how["stdout"] == subprocess.DEVNULL
    assert "compiled in the background" in model.runtime_note
    with artefacts.lock(model.prepared().key) as mine:  # as that process holds it
        assert mine
        assert artefacts.being_made() == [model.prepared().key]
        model.use_runtime("compile")
        assert len(started) == 1
    assert artefacts.being_made() == []


def test_a_failure_in_the_background_is_told_and_not_tried_again(monkeypatch):
    monkeypatch.setattr(preparing.subprocess, "Popen", lambda line, **how: None)
    monkeypatch.setattr("outpace.models.language_model.LOOK_EVERY", 1)
    model = tiny_model()
    model.source = ("some/model", "float32")
    model.use_runtime("compile")
    prepared = model.prepared()
    artefacts.folder().mkdir(parents=True, exist_ok=True)
    (artefacts.folder() / f"{prepared.key}.failed").write_text("it cannot be compiled (so)")
    from outpace import Decoder

    Decoder(model).generate(range(5), max_new_tokens=4)
    assert model.runtime_note == "a tiny random model runs eagerly: it cannot be compiled (so)"
    model.use_runtime("compile")
    assert "cannot be compiled (so)" in model.runtime_note


def test_a_lock_of_a_process_that_died_is_none(folder):
    folder.mkdir(parents=True)
    dead = subprocess.Popen(["true"])
    dead.wait()
    (folder / "abc.lock").write_text(str(dead.pid))
    with artefacts.lock("abc") as mine:
        assert mine
    (folder / "abc.lock").write_text(str(os.getppid()))
    with artefacts.lock("abc") as mine:
        assert not mine
    assert (folder / "abc.lock").exists()  # it is not ours to remove


def keep(key, nbytes, used):
    place = artefacts.place_of(key)
    place.mkdir(parents=True)
    (place / "wide.so").write_bytes(b"0" * nbytes)
    artefacts.finish(key, {"model": key})
    os.utime(place / "identity.json", (used, used))


def test_the_least_used_go_first(monkeypatch):
    monkeypatch.setenv(artefacts.LIMIT_VARIABLE, "0.000001")  # 1,000 bytes
    keep("old", 400, 10)
    keep("older", 400, 5)
    assert [one.key for one in artefacts.artefacts()] == ["old", "older"]
    artefacts.touch("older")
    keep("new", 300, 20)
    assert {one.key for one in artefacts.artefacts()} == {"older", "new"}
    keep("huge", 5000, 30)  # what was just made stays, whatever its size
    assert [one.key for one in artefacts.artefacts()] == ["huge"]
    assert artefacts.clear()[0] == 1
    assert artefacts.artefacts() == []
    for wrong in ("none", "-1", "0", "nan"):
        monkeypatch.setenv(artefacts.LIMIT_VARIABLE, wrong)
        with pytest.raises(InvalidArgument, match="OUTPACE_CACHE_GB"):
            artefacts.limit()


def test_what_is_not_whole_is_not_there(folder):
    place = artefacts.place_of("half")
    place.mkdir(parents=True)
    (place / "about.json").write_text("{}")
    assert not artefacts.is_there("half")
    assert artefacts.artefacts() == []
    keep("broken", 10, 1)
    (artefacts.place_of("broken") / "identity.json").write_text("[")
    assert artefacts.artefacts() == []
    with pytest.raises(RuntimeUnavailable, match="run outpace cache clear"):
        packages.PackagedRuntime(place, [], torch.float32)


def test_the_key_is_of_weights_precision_and_threads_not_of_the_name(monkeypatch):
    def key(model):
        return artefacts.key_of(artefacts.identity(model))

    one, same, other = tiny_model(), tiny_model(), tiny_model(seed=1)
    same.name = "another name"
    assert key(one) == key(same)
    assert key(one) != key(other)
    assert key(one) != key(tiny_model(dtype=torch.bfloat16))
    with torch.no_grad():
        list(same.model.parameters())[-1].flatten()[-1] += 1  # one weight, far from the first ones
    assert key(one) != key(same)
    before = key(one)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    assert key(one) != before


def test_rows_are_padded_to_one_width_in_a_bitwise_run():
    model, widths = tiny_model(), []
    original = model.step.run

    def run(tokens, *rest):
        widths.append(len(tokens))
        return original(tokens, *rest)

    model.step.run = run
    model.use_runtime("eager", bitwise=16)
    assert isinstance(model._runtime, EagerRuntime)
    from outpace import Decoder

    out = Decoder.from_pretrained(model, drafter="prompt-lookup", draft_length=9).generate(
        [1, 2, 3, 1, 2, 3, 1, 2], max_new_tokens=30, ignore_eos=True
    )
    assert set(widths) == {16}
    assert out.stats.rounds
