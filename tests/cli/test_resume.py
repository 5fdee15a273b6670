"""A study that was stopped in whatever way goes on where it was."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import Ran, Run
from studies import METHODS, cells, lines, write_study

PROMPTS, SETTINGS = 4, 2
MEASURED = ("hf", *METHODS)
WHOLE = len(MEASURED) * PROMPTS * SETTINGS
Stop = Callable[[int, int], tuple[int, bytes]]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are others there")


@pytest.fixture
def file(folder: Path, tmp_path: Path) -> Path:
    return write_study(tmp_path, folder)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def stopped(file: Path, out: Path) -> Stop:
    """Run the study in a process of its own, and send it a signal after so many texts."""

    def stop(after: int, number: int) -> tuple[int, bytes]:
        command = [sys.executable, "-m", "outpace", "study", str(file), "--out", str(out)]
        records = out / "records.jsonl"
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
        ) as process:
            end = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < end:
                if records.exists() and records.read_bytes().count(b'"kind":"cell"') >= after:
                    process.send_signal(number)
                    break
                time.sleep(0.002)
            process.communicate()
        return process.returncode, records.read_bytes()

    return stop


def resumed(run: Run, file: Path, out: Path) -> Ran:
    ran = run("study", file, "--out", out, "--resume")
    assert ran.code == 0, ran.err
    return ran


def check_whole(out: Path) -> None:
    """Every text exactly once, and results."""
    ids = {line["id"] for line in lines(out, "setting")}
    assert len(ids) == SETTINGS
    expected = set(itertools.product(ids, MEASURED, range(PROMPTS), [0]))
    found = cells(out)
    assert len(found) == WHOLE
    assert set(found) == expected
    for name in ("report.html", "results.md", "lengths-speed.csv", "lengths-speed.svg"):
        assert (out / name).stat().st_size > 0
    assert len((out / "lengths-speed.csv").read_text().splitlines()) == 1 + SETTINGS * 6


def check_anchors(out: Path) -> None:
    """An anchor stands exactly where a later run wrote what the baseline had written before."""
    baseline = {
        (line["setting"], line["prompt"], line["repeat"]): line["run"]
        for line in lines(out, "cell")
        if line["method"] == "hf"
    }
    needed = set()
    for line in lines(out, "cell"):
        key = (line["setting"], line["prompt"], line["repeat"])
        if baseline[key] != line["run"]:
            needed.add((*key, line["run"]))
    found = [
        (line["setting"], line["prompt"], line["repeat"], line["run"])
        for line in lines(out, "anchor")
    ]
    assert sorted(found) == sorted(needed)


def test_killed_in_the_middle(run: Run, file: Path, out: Path, stopped: Stop) -> None:
    code, before = stopped(5, signal.SIGKILL)
    assert code == -signal.SIGKILL
    whole = before[: before.rfind(b"\n") + 1]
    done = len(cells(out))
    assert 5 <= done < WHOLE
    resumed(run, file, out)
    assert (out / "records.jsonl").read_bytes().startswith(whole)
    check_whole(out)
    check_anchors(out)
    assert len(lines(out, "run")) == 2
    texts = {line["id"]: line["tokens"] for line in lines(out, "text")}
    assert len(texts) == len(lines(out, "text"))
    for line in lines(out, "cell"):  # greedy texts of one prompt are one text
        assert len(texts[line["tokens"]]) == 12
    page = (out / "results.md").read_text()
    assert "incomplete" not in page
    assert "as hf" in page


def test_killed_twice_with_a_line_cut_short(
    run: Run, file: Path, out: Path, stopped: Stop
) -> None:
    stopped(3, signal.SIGKILL)
    records = out / "records.jsonl"
    whole = records.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    records.write_bytes(whole + b'{"kind":"cell","setting":"len')
    ran = resumed(run, file, out)
    assert ran.err.count("its last line was cut short") == 1
    assert records.read_bytes().startswith(whole)
    check_whole(out)
    check_anchors(out)
    again = resumed(run, file, out)
    assert "cut short" not in again.err
    assert len(lines(out, "run")) == 2  # nothing was left to measure


def test_a_line_added_after_everything_is_left_out(
    run: Run, file: Path, out: Path
) -> None:
    assert run("study", file, "--out", out).code == 0
    records = out / "records.jsonl"
    whole = records.read_bytes()
    records.write_bytes(whole + b'{"kind"')
    ran = run("report", out)
    assert ran.code == 0
    assert ran.err.count("its last line was cut short") == 1
    check_whole(out)


def test_ctrl_c_in_the_middle(run: Run, file: Path, out: Path, stopped: Stop) -> None:
    code, before = stopped(6, signal.SIGINT)
    assert code == 130
    done = len(cells(out))
    assert 6 <= done < WHOLE
    assert (out / "report.html").stat().st_size > 0
    assert "interrupted" in (out / "results.md").read_text()
    resumed(run, file, out)
    assert (out / "records.jsonl").read_bytes().startswith(before)
    check_whole(out)
    check_anchors(out)
    assert "interrupted" not in (out / "results.md").read_text()


@pytest.mark.parametrize("kind", ["surprise", "differences", "drift", "method", "setting", "run"])
def test_stopped_right_after_any_kind_of_line(run: Run, file: Path, out: Path, kind: str) -> None:
    """As a kill there leaves the records: whatever is missing is made up for."""
    assert run("study", file, "--out", out).code == 0
    records = out / "records.jsonl"
    page = (out / "results.md").read_text()
    raw, found = records.read_bytes().splitlines(keepends=True), lines(out)
    last = max(place for place, line in enumerate(found) if line["kind"] == kind)
    first = min(place for place, line in enumerate(found) if line["kind"] == kind)
    records.write_bytes(b"".join(raw[: first + 1]))
    resumed(run, file, out)
    check_whole(out)
    check_anchors(out)
    known = {(line["setting"], line["prompt"], line["text"]) for line in lines(out, "surprise")}
    wanted = {
        (line["setting"], line["prompt"], line["tokens"]) for line in lines(out, "cell")
    }
    assert known == wanted
    assert "PPL" in page
    records.write_bytes(b"".join(raw[:last]))  # and right before the last of them
    if last > 2:
        resumed(run, file, out)
        check_whole(out)
        again = {(one["setting"], one["prompt"], one["text"]) for one in lines(out, "surprise")}
        assert again == wanted


def test_nothing_is_measured_again(
    run: Run, file: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("study", file, "--out", out).code == 0
    before = (out / "records.jsonl").read_bytes()

    def never(*_: object, **__: object) -> Any:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("outpace.bench.studies.run.load", never)
    resumed(run, file, out)
    assert (out / "records.jsonl").read_bytes() == before
