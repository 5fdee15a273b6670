import re
import runpy
import sys
from pathlib import Path

import pytest

from outpace.data import checkpoint

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
CHECKPOINT = checkpoint("TinyStories-656K")
TAKES_A_MODEL = ("generate", "stream_colours", "session")
EXPECTED = {
    "generate": "the same text as without drafting: True",
    "stream_colours": "ended by: ",
    "compare_drafters": "tokens a forward",
    "custom_generate": "the same ids: True",
    "own_drafter": "valid trees, the text of plain decoding",
    "session": "the same text as from an empty cache: True",
}


def run(
    name: str,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    path = str(EXAMPLES / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [path, *arguments])
    runpy.run_path(path, run_name="__main__")
    return capsys.readouterr().out


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_example(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = run(name, [], monkeypatch, capsys)
    assert EXPECTED[name] in printed
    assert "False" not in printed


@pytest.mark.skipif(CHECKPOINT is None, reason="no checkpoint at hand")
@pytest.mark.parametrize("name", TAKES_A_MODEL)
def test_example_on_a_checkpoint(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = run(name, [str(CHECKPOINT)], monkeypatch, capsys)
    assert EXPECTED[name] in printed
    assert "False" not in printed


def test_session_computes_only_what_is_new(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = [int(n) for n in re.findall(r"(\d+) of them", run("session", [], monkeypatch, capsys))]
    assert held[0] == 0 < held[1] < held[2]


@pytest.mark.parametrize("name", EXPECTED)
def test_example_is_short(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 40
