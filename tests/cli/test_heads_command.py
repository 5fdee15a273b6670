"""``outpace heads``: what it prints and writes, and what it refuses in one line."""

import json
from pathlib import Path

import pytest
from commandline import Run
from test_bad_input import check

from outpace.bench.heads import Analysis
from outpace.bench.pieces import Document
from outpace.cache.budgets import HeadBudgets
from outpace.models.tiny import tiny_model

TEXT = "the cat and the dog sat by the sea, and the cat said: dogs do not read. " * 6


@pytest.fixture
def heads(run: Run, folder: Path) -> Run:
    return lambda *words: run("heads", "--target", folder, "--dtype", "float32", *words)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_what_is_printed(heads: Run, file: Path, folder: Path) -> None:
    ran = heads(file, "--chunk", 100)
    assert ran.code == 0, ran
    lines = ran.out.splitlines()
    assert lines[0].split(maxsplit=1) == ["model", f"{folder} (float32, cpu)"]
    assert f"rows measured  {len(TEXT) - 260}" in lines
    assert "5 of 5 chunks (text.txt)" in ran.err
    found = Analysis(tiny_model(), {"": [Document("", TEXT)]}).run()
    means = [f"{sum(head.sinks for head in layer) / 4:.3f}" for layer in found.layers]
    cells = [line.split() for line in lines if line.strip()[:1] in {"0", "1"}]
    assert [(row[0], row[4]) for row in cells] == [("0", means[0]), ("1", means[1])]


def test_what_is_written(heads: Run, file: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "new" / "folder", tmp_path / "again.json"
    ran = heads(file, "--out", out, "--json", again, "--tokens", 300)
    assert ran.code == 0, ran
    record = json.loads((out / "heads.json").read_text())
    assert record == json.loads(again.read_text())
    assert record["texts"] == [{"source": str(file), "name": "text.txt", "tokens": 300, "rows": 40}]
    assert record["device"] == "cpu"
    assert "versions" in record["environment"]
    assert len(HeadBudgets.read(out / "heads.json").layers) == 2
    names = {path.name for path in out.iterdir()}
    assert {"sinks.svg", "sinks.png", "entropy.png", "classes.svg", "overview.png"} <= names
    assert not any(name.endswith(".new") for name in names)


def test_published_sets_that_are_absent_are_left_out(heads: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    books = data / "pg19_test_books"
    books.mkdir(parents=True)
    (books / "1.txt").write_text(TEXT)
    ran = heads("--data-dir", data)
    assert ran.code == 0, ran
    assert ran.err.startswith("outpace: left out: ")
    assert "wikitext-2-raw" in ran.err.splitlines()[0]
    check(heads("wikitext", "--data-dir", data), "wikitext-2-raw", "--data-dir")
    ran = heads("--data-dir", tmp_path / "nowhere")
    assert (ran.code, ran.out) == (2, "")
    assert "none of the evaluation texts is there (wikitext, pg19): give" in ran.err


def test_what_is_left_out_is_said(heads: Run, tmp_path: Path) -> None:
    lines = tmp_path / "texts.jsonl"
    lines.write_text("".join(json.dumps(text) + "\n" for text in ("short", TEXT)))
    ran = heads(lines)
    assert f"warning: {lines}: 1 of 2 texts, too short" in ran.out
    assert "beyond the context" in heads(lines, "--tokens", 600).out


def test_an_interrupt_keeps_what_is_done(
    heads: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Analysis.run

    def stopped(analysis: Analysis, *_: object) -> object:
        count = 0

        def notify(what: str, *, more: int = 0) -> None:
            nonlocal count
            count += 1
            if count > 4:
                raise KeyboardInterrupt

        return run(analysis, notify)

    monkeypatch.setattr(Analysis, "run", stopped)
    lines, out = tmp_path / "texts.jsonl", tmp_path / "out.json"
    lines.write_text(2 * (json.dumps(TEXT) + "\n"))
    ran = heads(lines, "--json", out)
    assert (ran.code, ran.err) == (130, "outpace: interrupted\n")
    assert json.loads(out.read_text())["interrupted"] is True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tokens", "260"], ("260 tokens", "give 261 or more")),
        (["--tokens", "many"], ("--tokens", "'many'", "give one, like 8")),
        (["--chunk", "0"], ("a chunk of 0 rows", "give 1 or more")),
        (["--limit", "0"], ("a limit of 0 texts", "give 1 or more")),
        (["--dtype", "int3"], ("'int3'", "float32")),
        (["--json", "/nowhere/out.json"], ("/nowhere/out.json", "make it first")),
        (["--json", "."], (". is a folder", "give the name of a file")),
        (["--target", "/nowhere/model"], ("/nowhere/model", "give a model folder")),
        (["/nowhere/text.txt"], ("no such file", "give a .txt or .jsonl file")),
    ],
)
def test_values(heads: Run, file: Path, words: list[str], said: tuple[str, ...]) -> None:
    check(heads(file, *words), *said)


def test_bad_texts_and_folders(heads: Run, file: Path, tmp_path: Path) -> None:
    check(heads(file, "--out", file), str(file), "give another folder")
    short = tmp_path / "short.txt"
    short.write_text("a dog")
    check(heads(short), "no text has more than 260 tokens", "give a longer text")


def test_values_are_checked_before_a_model_is_loaded(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outpace.models.load", lambda *_, **__: pytest.fail("loaded"))
    check(run("heads", file, "--chunk", 0), "a chunk of 0")
    check(run("heads", file, "--out", file), "give another folder")
    check(run("heads", "/nowhere/text.txt"), "no such file")
