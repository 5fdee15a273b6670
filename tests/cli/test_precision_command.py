"""``outpace precision`` on a command line."""

import re
from pathlib import Path

import pytest
from commandline import Run
from studies import lines
from test_bad_input import check

from outpace.bench.alone import run as here
from outpace.bench.studies import precisions


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(f'"the cat and the dog and the {n}"\n' for n in range(2)))
    return file


@pytest.fixture(autouse=True)
def reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errands in this process."""
    monkeypatch.setattr(precisions, "alone", here)


@pytest.fixture
def words(folder: Path, mine: Path, tmp_path: Path) -> list[object]:
    given = ["--quick", "--target", folder, "--prompts", mine, "--device", "cpu"]
    return [*given, "--runtime", "eager", "--out", tmp_path / "out"]


def test_it_compares_precisions(run: Run, words: list[object], tmp_path: Path) -> None:
    ran = run("precision", *words, "--dtypes", "fp32,bf16,int8,fp8")
    assert ran.code == 0, ran.err
    assert "outpace: left out: precision fp8 on cpu" in ran.err
    assert ran.err.count("left out") == 1
    for head in ("Quality", "Speed", "Memory"):
        assert re.search(f"^{head}.*:$", ran.out, re.MULTILINE)
    for name in ("float32", "bfloat16", "int8"):
        assert len(re.findall(f"^ plain in {name} ", ran.out, re.MULTILINE)) == 3  # tables
    assert (tmp_path / "out" / "precisions-precisions.png").stat().st_size > 10_000
    command = lines(tmp_path / "out", "run")[0]["command"]
    assert "outpace study precision --quick" in command
    assert "--axis precision=float32,bfloat16,int8" in command
    again = run("precision", *words, "--dtypes", "fp32,bf16,int8")
    check(again, tmp_path / "out", "give --resume")
    assert run("precision", *words, "--dtypes", "fp32,bf16,int8", "--resume").code == 0
    check(run("precision", *words, "--dtypes", "fp32", "--resume"), "holds the quick form")


def test_copies_that_do_not_fit_beside_each_other(
    run: Run, words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outpace.bench.memory.available_memory", lambda: 100_000.0)
    ran = run("precision", *words, "--dtypes", "fp32,int8")
    assert ran.code == 0, ran.err
    assert "one after another" in ran.err
    axes = [line["axes"] for line in lines(tmp_path / "out", "setting")]
    assert axes == [{"precision": "float32"}, {"precision": "int8"}]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--dtypes", "int3"), ("'int3'", "choose one of float32")),
        (("--dtypes", "fp8"), ("fp8 on cpu", "dtype bfloat16")),
        (("--dtypes", ","), ("no dtypes", "fp32,fp16")),
        (("--target", "nowhere/at-all"), ("nowhere/at-all", "check the name")),
        (("--drafter-dtype", "int3"), ("'int3'", "choose one of")),
        (("--device", "abacus"), ("'abacus'", "give cpu")),
        (("--limit", "0"), ("limit is 0", "1 or more")),
    ],
)
def test_nonsense(run: Run, words: list[object], given: tuple[str, ...], said: tuple[str]) -> None:
    check(run("precision", *words, *given), *said)


@pytest.mark.parametrize("option", ["--prompts", "--texts"])
def test_texts_that_are_not_there(
    run: Run, words: list[object], option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("outpace.bench.studies.models.load")  # seen before any model is loaded
    ran = run("precision", *words, option, "nothing.txt")
    assert ran.code == 2
    assert ran.out == ""
    last = ran.err.splitlines()[-1]
    assert last.startswith("outpace: prompts 'nothing.txt': no such file")


def test_axes_on_the_command_line(run: Run, words: list[object], tmp_path: Path) -> None:
    for text in ("precision", "=3", "precision="):
        check(run("study", "precision", *words, "--axis", text), text, "give a name and values")
    check(run("study", "precision", *words, "--axis", "K=3"), "'K'")
