import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

from outpace.bench import BenchPrompt, Writing, memory
from outpace.bench.alone import Errand, Found, main, read, run
from outpace.bench.alone import alone as in_a_process
from outpace.bench.divergence import Quality
from outpace.models.tiny import tiny_model

module = sys.modules["outpace.bench.alone"]
PROMPT = BenchPrompt("own", "0", "the cat and the dog and the cat and")
TEXTS = [list(b"the cat and the dog"), list(b"once upon a time")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("tiny")
    model = tiny_model()
    model.model.set_attn_implementation("sdpa")
    model.model.save_pretrained(place)
    model.tokenizer.save_pretrained(place)  # type: ignore[union-attr]
    return str(place)


@pytest.fixture
def errand(folder: str) -> Errand:
    return Errand(
        folder, "bfloat16", device="cpu", method="plain", prompt=PROMPT, writing=Writing(12)
    )


def test_an_errand_comes_back_as_it_was() -> None:
    prompt = BenchPrompt("own", "1", "hello", 3, ("and then?", "why?"), 7)
    errand = Errand(
        "zoo:target",
        "int8",
        "cpu",
        "eager",
        2,
        "draft@3",
        "zoo:small",
        "float32",
        4,
        prompt,
        Writing(9, 0.5, 3, top_k=4),
        [[1, 2], [3, 4, 5]],
        "a.npy",
        "b.npy",
    )
    assert read(asdict(errand)) == errand
    assert read(json.loads(json.dumps(asdict(errand)))) == errand
    least = Errand("zoo:target", "int8")
    assert read(asdict(least)) == least
    assert read(asdict(replace(errand, prompt=None))) != errand


def test_what_a_precision_needs(errand: Errand, folder: str) -> None:
    found = run(errand)
    assert found.refused is None
    assert not found.ran_out
    assert found.parameters == tiny_model().parameters
    assert found.weights == {folder: 2 * found.parameters}
    assert found.quality is None
    assert found.reserved is None
    if memory.highest(torch.device("cpu")) is not None:
        assert found.loading is not None
        assert found.peak is not None
        assert found.growth is not None
        assert found.peak > found.growth >= 0
    small = run(replace(errand, dtype="int8"))
    assert list(small.weights) == [f"{folder} (int8)"]
    assert sum(small.weights.values()) < sum(found.weights.values())


def test_draft_models_are_loaded_where_a_method_needs_one(errand: Errand, folder: str) -> None:
    drafting = replace(errand, method="draft@2", drafter="zoo:small", target="zoo:target")
    found = run(drafting)
    assert found.refused is None
    assert list(found.weights) == ["zoo:target", "zoo:small"]
    other = run(replace(drafting, drafter_dtype="float32"))
    assert other.weights["zoo:small"] == 2 * found.weights["zoo:small"]
    assert other.weights["zoo:target"] == found.weights["zoo:target"]
    assert list(run(replace(drafting, method="plain")).weights) == ["zoo:target"]


def test_quality_against_what_another_errand_left(folder: str, tmp_path: Path) -> None:
    path = str(tmp_path / "laws.npy")
    wide = Errand(folder, "float32", device="cpu", texts=TEXTS, keep=path)
    before = run(wide)
    assert before.quality is not None
    assert before.quality.mean_kl is None
    assert before.peak is None
    same = run(replace(wide, keep=None, reference=path)).quality
    assert same is not None
    assert same.kl == [0.0, 0.0]
    assert same.nats == before.quality.nats
    small = run(replace(wide, dtype="int8", keep=None, reference=path)).quality
    assert small is not None
    assert all(one > 0 for one in small.kl)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"target": "/no/such/model"}, "/no/such/model: no such folder: give a model folder"),
        ({"dtype": "int3"}, "unknown dtype 'int3': choose one of"),
        ({"dtype": "fp8"}, "precision fp8 on cpu: it is made for cuda"),
        ({"dtype": "int4"}, "int4 needs a multiple of 64 and one of 16: give int8"),
        ({"method": "nonsense"}, "nonsense"),
    ],
)
def test_what_cannot_be_had_is_an_answer(errand: Errand, changed: Any, said: str) -> None:
    found = run(replace(errand, **changed))
    assert found.refused is not None
    assert said in found.refused
    assert "\n" not in found.refused
    assert not found.ran_out
    assert found.weights == {}


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\nand more"),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried\nand more"),
    ],
)
def test_no_memory_is_an_answer(
    errand: Errand, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load", _raising(error))
    found = run(errand)
    assert found.ran_out
    assert found.refused is not None
    assert found.refused.startswith("out of memory (")
    assert "\n" not in found.refused


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), KeyError("a")])
def test_what_nobody_foresaw_is_raised(
    errand: Errand, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load", _raising(error))
    with pytest.raises(type(error)):
        run(errand)


def _raising(error: Exception) -> Callable[..., None]:
    def raises(*given: object, **settings: object) -> None:
        raise error

    return raises


def test_a_process_of_its_own_finds_the_same(errand: Errand, folder: str) -> None:
    asked = replace(errand, texts=TEXTS, threads=1)
    found, here = in_a_process(asked), run(asked)
    assert found.refused is None
    assert (found.parameters, found.weights) == (here.parameters, here.weights)
    assert found.quality is not None
    assert here.quality is not None
    assert found.quality.nats == pytest.approx(here.quality.nats, rel=1e-3)
    assert found.quality.tokens == here.quality.tokens == [18, 15]


def _done(code: int, out: str = "", err: str = "") -> Callable[..., Any]:
    def instead(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        assert command == [sys.executable, "-m", "outpace.bench.alone"]
        read(json.loads(settings["input"]))  # what it is told can be read
        return subprocess.CompletedProcess(command, code, out, err)

    return instead


@pytest.mark.parametrize("code", [-9, 137])
def test_a_process_that_is_killed_ran_out_of_memory(
    errand: Errand, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", _done(code, err="Loading\nKilled"))
    assert in_a_process(errand) == Found(
        refused="killed, as a system does that is short of memory", ran_out=True
    )


@pytest.mark.parametrize(
    ("code", "err", "said"),
    [
        (1, "Traceback (most recent call last):\n  File\nKeyError: 'a'\n", "KeyError: 'a'"),
        (-11, "", "exit code -11"),
    ],
)
def test_a_process_that_fails_says_its_last_line(
    errand: Errand, folder: str, code: int, err: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", _done(code, err=err))
    with pytest.raises(RuntimeError) as failure:
        in_a_process(errand)
    assert str(failure.value) == f"{folder} in bfloat16, in a process of its own: {said}"


def test_an_answer_is_the_last_line(errand: Errand, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Found(3, {"a": 4}, peak=5, quality=Quality([1.5], [2], [0.25], [1], 0.1, 0.2))
    out = f"a library's own words\n{json.dumps(asdict(found))}\n"
    monkeypatch.setattr(subprocess, "run", _done(0, out))
    assert in_a_process(errand) == found
    refused = Found(refused="no such folder")
    monkeypatch.setattr(subprocess, "run", _done(0, json.dumps(asdict(refused))))
    assert in_a_process(errand) == refused


def test_only_the_answer_is_on_standard_output(
    errand: Errand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def talking(given: Errand) -> Found:
        print("a library's own words")
        return Found(parameters=len(given.target))

    monkeypatch.setattr(module, "run", talking)
    monkeypatch.setattr(sys, "stdin", StringIO(json.dumps(asdict(errand))))
    assert main() == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["parameters"] == len(errand.target)
    assert err == "a library's own words\n"
