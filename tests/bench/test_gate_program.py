"""The program that holds the gate against every fixed length, on tiny models."""

from importlib import import_module
from pathlib import Path

import pytest

from outpace import Decoder
from outpace.bench import environment
from outpace.lengths.fixed import FixedLength

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr("outpace.cache.costs.ROUNDS", 1)
    return import_module("gate")


def test_replays_and_their_page(program, models, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("the cat and the dog and the cat and")
    made = program.replays(models, [str(file)], 1, 40)
    assert {row["drafter"] for row in made["rows"]} == {
        "draft",
        "prompt-lookup",
        "wrong",
        "as large",
    }
    for row in made["rows"]:
        if row["drafter"] == "wrong" and row["costs"] == "eager":
            assert row["gate"] > row["fixed"][3]
    text = program.page({"environment": environment(), "replay": made})
    assert text.count("| wrong | eager |") == 1
    assert f"| {file}, temperature 1.5 | draft |" in text


def test_a_wrong_drafter_is_wrong_and_costs_forwards(program, models):
    drafter = program.WrongDrafter(models.drafter)
    decoder = Decoder(models.target, drafter, lengths=FixedLength(3))
    out = decoder.generate("the cat", max_new_tokens=30, ignore_eos=True)
    assert out.stats.drafted > 60
    assert out.stats.accepted <= 1
    assert drafter.forwards >= out.stats.drafted
