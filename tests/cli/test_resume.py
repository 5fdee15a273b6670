"""A study that was stopped in whatever way goes on where it was."""

import itertools
import os
import shutil
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

from outpace.cli import main

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
        # where a shell runs the tests in the background, children would ignore Ctrl-C
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
        ) as process:
            signal.signal(signal.SIGINT, before)
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
    """An anchor stands exactly where a later run wrote what its companions had written before."""
    companions = {
        (line["method"], line["setting"], line["prompt"], line["repeat"]): line["run"]
        for line in lines(out, "cell")
        if line["method"] in {"hf", "plain"}
    }
    needed, early = set(), 0
    for line in lines(out, "cell"):
        key = (line["setting"], line["prompt"], line["repeat"])
        others = {"hf", "plain"} - {line["method"]}
        needed |= {(n, *key, line["run"]) for n in others if companions[n, *key] < line["run"]}
        others -= {"plain"} if line["method"] == "hf" else set()
        # it was stopped before their turn
        early += any(companions[name, *key] > line["run"] for name in others)
    found = [
        (line["method"], line["setting"], line["prompt"], line["repeat"], line["run"])
        for line in lines(out, "anchor")
    ]
    assert sorted(found) == sorted(needed)
    unpaired = f"{early} texts stand next to a baseline of another run"
    assert (unpaired in (out / "results.md").read_text()) == bool(early)


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


def test_killed_twice_with_a_line_cut_short(run: Run, file: Path, out: Path, stopped: Stop) -> None:
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


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study that ran through: its file and its folder."""
    place = tmp_path_factory.mktemp("whole")
    file = write_study(place, folder)
    assert main(["study", str(file), "--out", str(place / "out")]) == 0
    return file, place / "out"


def test_a_line_added_after_everything_is_left_out(
    run: Run, whole: tuple[Path, Path], out: Path
) -> None:
    shutil.copytree(whole[1], out)
    records = out / "records.jsonl"
    records.write_bytes(records.read_bytes() + b'{"kind"')
    ran = run("report", out)
    assert ran.code == 0
    assert ran.err.count("its last line was cut short") == 1
    check_whole(out)


@pytest.mark.parametrize(
    ("kind", "after"),
    [("surprise", 1), ("surprise", -1), ("differences", 2), ("drift", 1), ("method", 3)],
)
def test_stopped_right_before_a_line(
    run: Run, whole: tuple[Path, Path], out: Path, kind: str, after: int
) -> None:
    """As a kill there leaves the records: whatever is missing is made up for."""
    file, before = whole
    raw = (before / "records.jsonl").read_bytes().splitlines(keepends=True)
    place = [n for n, line in enumerate(lines(before)) if line["kind"] == kind][after]
    out.mkdir()
    (out / "records.jsonl").write_bytes(b"".join(raw[:place]))
    resumed(run, file, out)
    check_whole(out)
    check_anchors(out)
    known = [(one["setting"], one["prompt"], one["text"]) for one in lines(out, "surprise")]
    texts = {(one["setting"], one["prompt"], one["tokens"]) for one in lines(out, "cell")}
    assert set(known) == texts
    assert len(known) == len(texts)
    compared = [(one["setting"], one["method"]) for one in lines(out, "differences")]
    assert len(compared) == len(set(compared)) == SETTINGS * len(MEASURED)


def test_nothing_is_measured_again(
    run: Run, whole: tuple[Path, Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole[1], out)
    before = (out / "records.jsonl").read_bytes()

    def never(*_: object, **__: object) -> Any:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("outpace.bench.studies.models.load", never)
    resumed(run, whole[0], out)
    assert (out / "records.jsonl").read_bytes() == before


def test_other_prompts_are_refused(run: Run, whole: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(whole[0].parent, tmp_path / "copy")
    file, out = tmp_path / "copy" / "tiny.toml", tmp_path / "copy" / "out"
    raw = (out / "records.jsonl").read_bytes().splitlines(keepends=True)
    (out / "records.jsonl").write_bytes(b"".join(raw[:-12]))
    prompts = whole[0].parent / "mine.jsonl"
    text = prompts.read_text()
    try:
        prompts.write_text(text.replace("cat", "cow"))
        ran = run("study", file, "--out", out, "--resume")
        assert ran.code == 2
        assert "the prompts are not those that were measured before" in ran.err
        assert "Traceback" not in ran.err
    finally:
        prompts.write_text(text)
