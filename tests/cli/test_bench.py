import json
import os
import re
import shlex
from pathlib import Path

import pytest
from commandline import Ran, Run, Terminal
from test_bad_input import check

from outpace.bench.runner import _Run
from outpace.cli import main


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "mine.jsonl"
    file.write_text('"the cat and the dog and the cat"\n{"prompt": "once upon a time"}\n')
    return file


@pytest.fixture
def bench(run: Run, folder: Path, similar: Path, prompts: Path) -> Run:
    """Run ``outpace bench`` on a tiny pair."""

    def ran(*words: object) -> Ran:
        fixed = ("--target", folder, "--drafter", similar, "--prompts", prompts)
        return run(
            "bench", *fixed, "--dtype", "float32", "--max-new-tokens", 12, "--repeats", 1, *words
        )

    return ran


def test_tables_record_and_page(bench: Run, tmp_path: Path) -> None:
    record_file, page = tmp_path / "out.json", tmp_path / "out.md"
    ran = bench("--json", record_file, "--markdown", page)
    assert ran.code == 0, ran.err
    record = json.loads(record_file.read_text())
    names = [result["method"] for result in record["results"]]
    assert names == ["hf", "hf-assisted", "plain", "draft", "prompt-lookup", "ngram"]
    assert all(result["identical"] for result in record["results"][1:])
    text = page.read_text()
    for name in names:
        assert f"| {name} | " in text
        assert re.search(rf"^ {name} ", ran.out, re.M)
    assert record["config"]["command"] in text
    assert "too few for intervals to be trusted" in ran.out
    assert "of 26 texts" not in ran.out  # progress is told on standard error
    assert re.search(r"^26 of 26 texts", ran.err, re.M)
    assert not list(tmp_path.glob("*.new"))


def test_the_command_in_the_record_runs_again(bench: Run, run: Run, tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    assert bench("--methods", "plain,draft@3", "--json", first).code == 0
    record = json.loads(first.read_text())
    words = shlex.split(record["config"]["command"])[1:]
    assert run(*words, "--json", second).code == 0
    again = json.loads(second.read_text())
    assert again["config"] == record["config"]
    assert again["prompts"] == record["prompts"]
    drafted = [
        [run_["drafted"] for result in one["results"] for run_ in result["runs"]]
        for one in (record, again)
    ]
    assert drafted[0] == drafted[1]


def test_the_baseline_is_always_there(bench: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert bench("--methods", "ngram", "--temperature", 0.7, "--json", out).code == 0
    record = json.loads(out.read_text())
    assert [result["method"] for result in record["results"]] == ["hf", "plain", "ngram"]


def test_without_a_draft_model(run: Run, folder: Path, prompts: Path) -> None:
    fixed = ("bench", "--target", folder, "--prompts", prompts, "--max-new-tokens", 4)
    ran = run(*fixed, "--repeats", 1)
    assert ran.code == 0
    assert "draft" not in re.findall(r"^ (\S+)", ran.out, re.M)
    check(run(*fixed, "--methods", "draft"), "'draft' needs a draft model", "give --drafter")


def test_a_bar_on_a_terminal(bench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    bench("--methods", "hf")
    assert "0:00:0" in screen.getvalue()  # the time that is left
    assert "/6" in screen.getvalue()


def test_interrupt(
    folder: Path,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = _Run.measure

    def upset(turn: _Run) -> None:
        told = []

        def stop(what: str, *, more: int = 0) -> None:
            told.append(what)
            if len(told) == 4:
                raise KeyboardInterrupt

        turn.notify = stop
        own(turn)

    monkeypatch.setattr(_Run, "measure", upset)
    out = tmp_path / "out.json"
    words = ["bench", "--target", folder, "--prompts", prompts, "--methods", "plain"]
    words += ["--max-new-tokens", 8, "--json", out]
    assert main([str(word) for word in words]) == 130
    record = json.loads(out.read_text())
    assert record["interrupted"]
    assert record["prompts"]["count"] == 1
    assert "warning: 1 of 4 texts a method are done: interrupted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "hff"], ["unknown method 'hff' (did you mean 'hf'?)", "choose one of hf,"]),
        (["--methods", ","], ["no methods", "give one or more of hf,"]),
        (["--methods", "hf@3"], ["hf takes no draft length after '@'"]),
        (["--methods", "draft@"], ["'draft@'", "takes no draft length"]),
        (["--methods", "draft@0"], ["draft length 0", "--drafter none"]),
        (["--methods", "draft@99"], ["draft length 99: give 1 to 63"]),
        (["--methods", "hf-assisted@adaptive"], ["transformers takes a number of draft tokens"]),
        (["--draft-length", "often"], ["unknown draft length 'often'"]),
        (["--prompts", "pg-19"], ["prompts 'pg-19' (did you mean 'pg19'?)", "no such file"]),
        (["--repeats", "0"], ["0 repeats: give 1 or more"]),
        (["--warmup", "-1"], ["-1 warmup: give 0 or more"]),
        (["--limit", "0"], ["a limit of 0 prompts: give 1 or more"]),
        (["--limit", "x"], ["'x' is no whole number"]),
        (["--temperature", "-1"], ["temperature -1.0: give 0 (greedy) or more"]),
        (["--max-new-tokens", "0"], ["0 new tokens to make: give 1 or more"]),
        (["--max-new-tokens", "600"], ["600 new tokens leave no room", "fewer --max-new-tokens"]),
        (["--dtype", "bf8"], ["unknown dtype 'bf8'"]),
        (["--json", "/no/such/folder/x.json"], ["the folder /no/such/folder is not there"]),
        (["--json", "."], [". is a folder: give the name of a file"]),
        (["--drafter", "zoo:huge"], ["no embedded model 'zoo:huge'", "zoo:large"]),
    ],
)
def test_bad_input(bench: Run, words: list[str], said: list[str]) -> None:
    check(bench(*words), *said)


def test_a_device_stays_a_device(bench: Run) -> None:
    assert bench("--methods", "plain", "--json", os.devnull).code == 0
    assert Path(os.devnull).is_char_device()


def test_one_token_a_text(bench: Run) -> None:
    assert bench("--max-new-tokens", 1).code == 0


def test_one_file_for_two_outputs(bench: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    check(bench("--json", out, "--markdown", out), "--json and --markdown are one file")
    assert not out.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_place_that_cannot_be_written(bench: Run, tmp_path: Path) -> None:
    place = tmp_path / "closed"
    place.mkdir(mode=0o500)
    check(bench("--json", place / "x.json"), "cannot be written")
