"""The command line as a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import PROMPT, Run

from outpace import __version__


def start(*words: object, **options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "outpace", *map(str, words)]
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command, capture_output=True, encoding="utf-8", timeout=120, **options
    )


def test_pipe(folder: Path) -> None:
    given = ("generate", "--target", folder, "--max-new-tokens", 8, "--json")
    ran = start(*given, input=PROMPT)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert json.loads(ran.stdout)["stats"]["new_tokens"] == 8


def test_refusal(tmp_path: Path) -> None:
    # a broken folder, about which the libraries below would have much to say
    (tmp_path / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "a.B"}}'
    )
    ran = start("generate", PROMPT, "--target", tmp_path)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith(f"outpace: {tmp_path}: ")
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("word", ["--help", "--version", "generate --help", "tune --help"])
def test_help_waits_for_no_library(word: str) -> None:
    code = (
        "import sys; from outpace.cli import main; code = main(); "
        "heavy = {'torch', 'transformers', 'numpy'} & set(sys.modules); "
        "print(heavy, file=sys.stderr); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, *word.split()]
    ran = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)
    assert ran.returncode == 0
    assert ran.stderr == "set()\n"
    if word == "--version":
        assert ran.stdout == f"outpace {__version__}\n"
    else:
        assert ran.stdout.startswith("Usage: outpace ")


def test_no_command_shows_the_help(run: Run) -> None:
    ran = run()
    assert ran.code == 2
    assert ran.out.startswith("Usage: outpace [OPTIONS] COMMAND")
    assert ran.err == ""


def test_reader_that_has_gone() -> None:
    command = [sys.executable, "-m", "outpace", "generate", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_disk_that_is_full() -> None:
    command = [sys.executable, "-m", "outpace", "--help"]
    with open("/dev/full", "w") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, encoding="utf-8")
    assert ran.returncode == 2
    assert ran.stderr.startswith("outpace: ")
    assert "No space left" in ran.stderr
    assert ran.stderr.count("\n") == 1
