import re
import shutil
from pathlib import Path

import pytest
from commandline import Run, Terminal

from outpace.cli import main
from outpace.cli.demo import CHECKPOINT
from outpace.decoder import Stream


def test_without_a_checkpoint_a_random_model_writes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTPACE_DATA", str(tmp_path))
    ran = run("demo", "--max-new-tokens", 12)
    assert ran.code == 0
    assert ran.err == ""
    first = ran.out.splitlines()[0]
    assert first.startswith("No checkpoint is at hand, so a tiny random model writes")
    assert f"OUTPACE_DATA names a folder with models/{CHECKPOINT}" in first
    assert "3 of 3 texts are, token for token, what the model writes alone." in ran.out
    assert "\x1b" not in re.sub(r"\x1b(?!\[)", "", ran.out)  # the text itself may hold anything


def test_with_a_checkpoint(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "models" / CHECKPOINT)
    monkeypatch.setenv("OUTPACE_DATA", str(tmp_path))
    ran = run("demo", "--max-new-tokens", 8)
    assert ran.code == 0
    assert ran.out.startswith(f"{CHECKPOINT}, a checkpoint of ")
    assert ran.out.count("[greedy]") == 2
    assert ran.out.count("[temperature 0.6]") == 1
    assert ran.out.count("exact: the same text") == 3


def test_colours_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTPACE_DATA", str(tmp_path))
    texts = []
    for words in ([], ["--no-color"]):
        out = Terminal()
        monkeypatch.setattr("sys.stdout", out)
        assert main(["demo", "--max-new-tokens", "8", *words]) == 0
        texts.append(out.getvalue())
    assert "\x1b[32maccepted\x1b[0m" in texts[0]
    assert "\x1b[3" not in texts[1]
    assert "accepted\x1b" not in texts[1]


def test_interrupt(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def upset(stream: Stream) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("OUTPACE_DATA", str(tmp_path))
    monkeypatch.setattr(Stream, "__next__", upset)
    ran = run("demo")
    assert ran.code == 130
    assert ran.out.endswith("Max\n")
    assert ran.err == "outpace: interrupted\n"
