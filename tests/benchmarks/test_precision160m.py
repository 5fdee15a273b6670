import json
from pathlib import Path

import pytest

import precision160m
from outpace.errors import UnsupportedModel
from outpace.models import LanguageModel, wrap

QUICK = ["--quick", "--prompts", "2", "--prompt-tokens", "6", "--tokens", "12", "--forwards", "1"]


def test_every_precision_in_every_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def same(model: LanguageModel, runtime: str) -> LanguageModel:
        assert runtime == "compile"  # which takes too long here
        with model.stock() as stock:
            return wrap(stock, model.tokenizer, name=model.name)

    monkeypatch.setattr(precision160m, "in_runtime", same)
    assert precision160m.main([*QUICK, "--into", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "precision160m.json").read_text())
    named = {f"{run} {kind}" for run in precision160m.RUNTIMES for kind in precision160m.KINDS}
    assert {one["method"] for one in record["results"]} == {"hf"} | {f"{n} plain" for n in named}
    assert set(record["forwards"]) == named
    assert all(len(row) == len(precision160m.WIDTHS) for row in record["forwards"].values())
    page = (tmp_path / "precision160m.md").read_text()
    assert "| int8 + head |" in page
    assert "At width 8 compiled " in page
    assert "not measured" not in page


def test_what_is_not_compiled_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(model: LanguageModel, runtime: str) -> LanguageModel:
        raise UnsupportedModel(f"{model.name}: no compiler")

    monkeypatch.setattr(precision160m, "in_runtime", refused)
    assert precision160m.main([*QUICK, "--into", str(tmp_path)]) == 0
    page = (tmp_path / "precision160m.md").read_text()
    assert "- not measured, synthetic tiny (int4): no compiler" in page
    assert "At width 1 eager " in page
