import json
from pathlib import Path
from typing import Any

import pytest

import pythia160m
import synthetic
from outpace.bench import Models
from outpace.errors import UnsupportedModel
from outpace.models import LanguageModel, wrap
from synthetic import in_runtime, number_tokenizer, pair, prompts

QUICK = ["--quick", "--prompts", "2", "--prompt-tokens", "6", "--tokens", "12", "--warmup", "0"]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call the eager runtime compiled: compiling takes too long here."""

    def same(model: LanguageModel, runtime: str) -> LanguageModel:
        assert runtime == "compile"
        with model.stock() as stock:
            return wrap(stock, model.tokenizer, name=model.name)

    monkeypatch.setattr(pythia160m, "in_runtime", same)


@pytest.mark.usefixtures("eager")
def test_everything_is_measured_and_compared(tmp_path: Path) -> None:
    assert pythia160m.main([*QUICK, "--into", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "pythia160m.json").read_text())
    named = {one["method"] for one in record["results"]}
    wanted = {name for one, other, _ in pythia160m.WANTED for name in (one, other)}
    assert named == wanted
    assert record["config"]["missing"] == []
    assert all(one["identical"] is not False for one in record["results"])
    page = (tmp_path / "pythia160m.md").read_text()
    assert "synthetic acceptance 0.75" in page
    assert "| compiled plain | hf |" in page
    assert "not measured" not in page


def test_a_runtime_that_is_not_there_is_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(model: LanguageModel, runtime: str) -> LanguageModel:
        raise UnsupportedModel("no compiler")

    monkeypatch.setattr(pythia160m, "in_runtime", refused)
    assert pythia160m.main([*QUICK, "--into", str(tmp_path)]) == 0
    page = (tmp_path / "pythia160m.md").read_text()
    assert "- not measured, no compiler" in page
    assert "| draft@5 | hf-assisted@5 |" in page
    assert "compiled plain" not in page


def test_a_text_that_differs_ends_in_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def another(model: LanguageModel, precision: str) -> LanguageModel:
        other = pair("tiny", 0.75, "bfloat16", "cpu", seed=1)
        return other.target

    monkeypatch.setattr(pythia160m, "quantized", another)
    monkeypatch.setattr(pythia160m, "COMPILED", ())
    monkeypatch.setattr(pythia160m, "in_runtime", lambda model, runtime: model)
    assert pythia160m.main([*QUICK, "--into", str(tmp_path)]) == 1


def test_token_ids_are_the_text() -> None:
    tokenizer: Any = number_tokenizer(1024)
    assert tokenizer("17 4 1023")["input_ids"] == [17, 4, 1023]
    assert tokenizer.decode([17, 4, 1023]) == "17 4 1023"
    made = prompts(1024, 3, 5)
    assert [len(tokenizer(one.text)["input_ids"]) for one in made] == [5, 5, 5]
    assert len({one.text for one in made}) == 3


class Runtimes:
    """What a model with runtimes is like."""

    runtime_name = "eager"
    runtime_note: str | None = None

    def __init__(self, can: str) -> None:
        self.can = can

    def use_runtime(self, name: str, *, wait: bool) -> None:
        assert wait
        self.runtime_name = name if name == self.can else "eager"


def test_a_runtime_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    both: Models = pair("tiny", 0.75, "float32", "cpu")
    monkeypatch.setattr(synthetic, "wrap", lambda *args, **kwargs: Runtimes("compile"))
    assert in_runtime(both.target, "compile").runtime_name == "compile"  # type: ignore[attr-defined]
    with pytest.raises(UnsupportedModel, match="'graph' cannot be had here"):
        in_runtime(both.target, "graph")
