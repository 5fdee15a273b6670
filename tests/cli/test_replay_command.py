"""``outpace bench --replay``: the same measurement again, held against the first."""

import json
from pathlib import Path
from typing import Any

import pytest
from commandline import Run

from outpace.bench.again import Again


@pytest.fixture
def record(run: Run, folder: Path, tmp_path: Path) -> Path:
    """A record of two methods on two prompts."""
    prompts, out = tmp_path / "mine.jsonl", tmp_path / "record.json"
    prompts.write_text('"the cat and the dog and the"\n"once upon a time there was a"\n')
    ran = run(
        *("bench", "--target", folder, "--prompts", prompts, "--methods", "plain,ngram@3"),
        *("--max-new-tokens", 8, "--dtype", "float32", "--json", out),
    )
    assert ran.code == 0, ran.err
    return out


def test_it_runs_what_the_record_says(run: Run, record: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    ran = run("bench", "--replay", record, "--json", again)
    assert ran.code == 0, ran.err
    old, new = (json.loads(file.read_text()) for file in (record, again))
    assert new["config"] == old["config"]
    assert new["prompts"]["sha256"] == old["prompts"]["sha256"]
    texts = [[run["text"] for one in each["results"] for run in one["runs"]] for each in (old, new)]
    assert texts[0] == texts[1]
    assert "× hf then" in ran.out.replace("\n", " ") or "then" in ran.out
    assert "methods" in ran.out.splitlines()[-1] or "note: " in ran.out


@pytest.mark.parametrize(
    "words", [["--limit", 3], ["--methods", "plain"], ["--seed", 0], ["--prompts", "pg19"]]
)
def test_what_the_record_says_cannot_be_said_again(
    run: Run, record: Path, words: list[object]
) -> None:
    ran = run("bench", "--replay", record, *words)
    assert ran.code == 2
    assert f"{words[0]} with --replay" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("{", "is none of a benchmark"),
        ("[]", "is none of a benchmark"),
        ('{"schema_version": 1}', "is none of a benchmark"),
        (
            '{"schema_version": 99, "config": {}, "environment": {}, "prompts": {}, "results": []}',
            "of a later version (99",
        ),
        (
            '{"schema_version": 1, "config": {}, "environment": {}, "prompts": {}, "results": []}',
            "does not say its",
        ),
    ],
)
def test_what_is_no_record(run: Run, tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "r.json"
    if text is not None:
        file.write_text(text)
    ran = run("bench", "--replay", file)
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1


def result(value: float, low: float | None, high: float | None, *texts: str) -> dict[str, Any]:
    runs = [{"prompt": n, "repeat": 0, "text": text} for n, text in enumerate(texts)]
    ratio = {"value": value, "low": low, "high": high}
    return {"method": "plain", "speedup_vs_hf": ratio, "runs": runs}


def pair(then: dict[str, Any], now: dict[str, Any], **changed: Any) -> Again:
    first = {"prompts": {"sha256": "a"}, "environment": {"cpu": {"cores": 2}}, "results": [then]}
    return Again(first, {**first, "results": [now], **changed})


def test_what_stands() -> None:
    both = pair(result(2.0, 1.9, 2.1, "a", "b"), result(2.05, 2.0, 2.2, "a", "b"))
    assert both.rows()[0][3:] == ("1.02", "meet", "all")
    assert both.sentences() == []
    assert both.verdict().startswith("It stands")


def test_what_does_not_stand() -> None:
    other = {"environment": {"cpu": {"cores": 4}}}
    both = pair(result(2.0, 1.9, 2.1, "a", "b"), result(1.0, 0.9, 1.1, "a", "c"), **other)
    assert both.rows()[0][4:] == ("apart", "1 of 2")
    told = " ".join(both.sentences())
    assert "do not even meet: plain" in told
    assert "cpu cores: 2 then, 4 now" in told
    assert "1 have another ratio" in both.verdict()


def test_records_without_texts_or_intervals() -> None:
    then = result(2.0, None, None)
    assert pair(then, result(1.0, 0.9, 1.1, "a")).rows()[0][4:] == ("–", "–")


def test_nothing_stands_that_was_not_tested() -> None:
    then, now = result(3.0, None, None, "a"), result(1.0, None, None, "a")
    both = pair(then, now)
    assert both.sentences() == ["ratios without an interval to compare: plain"]
    assert "It stands" not in both.verdict()
    assert "1 of 1 methods" in both.verdict()
    sure = result(2.0, 1.9, 2.1, "a")
    gone = pair(sure, sure, results=[])
    assert gone.sentences() == ["methods without figures now: plain"]
    assert gone.verdict().startswith("Of 1 methods 0 have another ratio")
    others = pair(sure, sure, prompts={"sha256": "b"})
    assert "prompts are not the same" in others.sentences()[0]
    assert others.verdict() == "Nothing can be said: the prompts are others than before."
