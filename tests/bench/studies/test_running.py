"""What a study does with methods that cannot run, or come later."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mine import PROMPTS

from outpace.bench.baselines import HuggingFace
from outpace.bench.loop import Loop
from outpace.bench.measured import Facts, Measured
from outpace.bench.prices import mean_prices
from outpace.bench.studies import Study
from outpace.bench.studies import models as loading
from outpace.bench.studies import run as running
from outpace.bench.studies.journal import Journal
from outpace.bench.studies.outcome import outcomes, rows
from outpace.bench.studies.results import write_results
from outpace.bench.studies.run import StudyRun, finished, planned
from outpace.bench.workloads import BenchPrompt
from outpace.errors import OutpaceError

Make = Callable[..., Study]
Go = Callable[[Study], Journal]
ADDED = "ngram@4"


def cells(journal: Journal, kind: str = "cell") -> list[tuple[str, int, int, int]]:
    return [
        (line["method"], line["prompt"], line["repeat"], line["run"]) for line in journal.of(kind)
    ]


def results(study: Study, journal: Journal, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    write_results(study, journal, outcomes(study, journal), folder)
    return (folder / "results.md").read_text()


def test_of_a_method_that_is_added_its_texts_alone_are_measured(
    study: Make, run: Go, tmp_path: Path
) -> None:
    before = run(study("plain"))
    raw = before.path.read_bytes()
    asked = study("plain", ADDED)
    assert not finished(Journal(tmp_path / "out").read(), asked.settings()[0])
    journal = run(asked)
    assert journal.path.read_bytes().startswith(raw)
    assert sorted(cells(journal)[len(cells(before)) :]) == [(ADDED, n, 0, 2) for n in range(3)]
    beside = [(name, n, 0, 2) for name in ("hf", "plain") for n in range(3)]
    assert sorted(cells(journal, "anchor")) == beside
    assert finished(journal, asked.settings()[0])
    assert journal.of("differences", method=ADDED)[0]["found"] == []
    assert len(journal.of("drift")) == 2
    lines = len(journal.lines)
    assert len(run(asked).lines) == lines


def test_its_ratio_is_against_the_baseline_beside_it(study: Make, run: Go) -> None:
    run(study("plain"))
    asked = study("plain", ADDED)
    journal = run(asked)
    for line in journal.lines:  # a machine that is ten times slower today
        if line["kind"] == "anchor" or (line["kind"] == "cell" and line["run"] == 2):
            line["seconds"] = 10.0
        elif line["kind"] == "cell":
            line["seconds"] = 1.0
    found = {row.method: row.figure("speedup") for row in rows(outcomes(asked, journal), "a")}
    assert found[ADDED].value == 1.0
    assert found["plain"].value == 1.0
    for line in list(journal.lines):  # the negative control: without them it looks slow
        if line["kind"] == "anchor":
            journal.lines.remove(line)
    found = {row.method: row.figure("speedup") for row in rows(outcomes(asked, journal), "a")}
    assert found[ADDED].value == pytest.approx(0.1)
    warnings = outcomes(asked, journal)[0].record["warnings"]
    assert "unpaired" in {one["kind"] for one in warnings}


def test_a_method_that_was_only_begun_takes_nothing_away(
    study: Make, run: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(study("plain"))
    asked = study("plain", ADDED)
    own, calls = Loop.write, [0]

    def write(method: Loop, *given: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:  # its memory is measured, its first text is not written
            raise KeyboardInterrupt
        return own(method, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "write", write)
        with pytest.raises(KeyboardInterrupt):
            run(asked)
    journal = Journal(run(study("plain")).path.parent).read()  # what is there, and nothing more
    assert ADDED not in {one[0] for one in cells(journal)}
    found = {row.method: row for row in rows(outcomes(asked, journal), "a")}
    assert found["plain"].figure("speedup") is not None
    assert found[ADDED].result is None
    assert found[ADDED].why == "not measured yet"
    journal = run(asked)
    assert finished(journal, asked.settings()[0])
    assert len([one for one in cells(journal) if one[0] == ADDED]) == 3


OUT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore words"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError(),
]


def failing(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException, at: int) -> None:
    """Have one method of the loop fail when it writes for the ``at``-th time."""
    own, calls = Loop.write, [0]

    def write(method: Loop, *given: Any) -> Any:
        if method.name == name:
            calls[0] += 1
            if calls[0] >= at:
                raise error
        return own(method, *given)

    monkeypatch.setattr(Loop, "write", write)


@pytest.mark.parametrize("error", OUT, ids=["gpu", "host", "python"])
@pytest.mark.parametrize("at", [1, 3])
def test_no_memory_is_a_result(
    study: Make,
    run: Go,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: BaseException,
    at: int,
) -> None:
    failing(monkeypatch, "ngram@4", error, at)
    asked = study("plain", "ngram@4", "prompt-lookup")
    journal = run(asked)
    (line,) = journal.of("unusable", method="ngram@4")
    assert line["why"].startswith("out of memory")
    assert "\n" not in line["why"]
    for name in ("hf", "plain", "prompt-lookup"):
        assert len([one for one in cells(journal) if one[0] == name]) == 3
    assert len([one for one in cells(journal) if one[0] == "ngram@4"]) == max(0, at - 2)
    assert finished(journal, asked.settings()[0])
    assert f"No figures ({line['why']}): ngram@4." in results(asked, journal, tmp_path / "r")
    assert len(run(asked).lines) == len(journal.lines)  # it is not tried again


def test_another_error_is_none(study: Make, run: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "ngram@4", RuntimeError("shapes do not match"), 3)
    asked = study("plain", "ngram@4")
    with pytest.raises((OutpaceError, RuntimeError), match="shapes do not match"):
        run(asked)
    monkeypatch.undo()
    journal = run(asked)  # mended, it goes on
    assert finished(journal, asked.settings()[0])
    assert not journal.of("unusable", method="ngram@4")
    done = [one[:3] for one in cells(journal)]
    assert len(done) == len(set(done)) == 9


def test_the_baseline_must_have_memory(
    study: Make, run: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr("outpace.bench.baselines.HuggingFace.write", full)
    asked = study("plain")
    journal = run(asked)
    (line,) = journal.of("impossible")
    assert line["why"] == "out of memory (no memory)"
    assert finished(journal, asked.settings()[0])
    assert outcomes(asked, journal) == []


@pytest.mark.parametrize("what", ["load", "HuggingFace.write"])
def test_a_setting_without_memory_leaves_the_others(
    study: Make, run: Go, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    options = dict(study("plain").options)
    text = '[[parts]]\nname = "a"\nmethods = ["plain"]\naxes = { dtype = ["float32", "bfloat16"] }'
    del options["dtype"]
    asked = Study.parse("mine", text, options=options)
    where = f"outpace.bench.{'studies.models' if what == 'load' else 'baselines'}.{what}"
    own = loading.load if what == "load" else HuggingFace.write

    def full(first: Any, *given: Any, **named: Any) -> Any:
        dtype = named["dtype"] if what == "load" else str(first.target.dtype)
        if "float32" in dtype:
            raise torch.OutOfMemoryError("no memory")
        return own(first, *given, **named)

    monkeypatch.setattr(where, full)
    journal = run(asked)
    first, second = asked.settings()
    assert [line["setting"] for line in journal.of("impossible")] == [first.id]
    assert {line["setting"] for line in journal.of("cell")} == {second.id}
    assert "a[dtype=float32]: no figures: out of memory (no memory)" in results(
        asked, journal, tmp_path / "r"
    )
    assert len(run(asked).lines) == len(journal.lines)  # it is not tried again


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``ngram@4`` write another last token after the third prompt."""
    own = Loop.write

    def write(method: Loop, prompt: BenchPrompt, writing: Any) -> Any:
        sample = own(method, prompt, writing)
        if method.name == "ngram@4" and prompt.text == PROMPTS[2]:
            sample.tokens[-1] ^= 1
        return sample

    monkeypatch.setattr(Loop, "write", write)


@pytest.mark.usefixtures("wrong")
def test_no_memory_to_look_into_a_difference(
    study: Make, run: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr("outpace.bench.differences.Judge.judge", full)
    monkeypatch.setattr("outpace.bench.afterwards.surprise", full)
    asked = study("plain", "ngram@4")
    journal = run(asked)
    assert finished(journal, asked.settings()[0])
    (found,) = journal.of("differences", method="ngram@4")
    assert [one["kind"] for one in found["found"]] == ["unclear"]
    (record,) = [one.record for one in outcomes(asked, journal)]
    assert {one["ppl"] for one in record["results"]} == {None}
    assert "text" in {one["kind"] for one in record["warnings"]}


@pytest.mark.usefixtures("wrong")
def test_nothing_is_looked_into_before_every_text_is_there(
    study: Make, run: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stopped when some methods had written the last prompt is compared in the end."""
    asked = study("plain", "ngram@4", "prompt-lookup")
    own = Loop.write

    def write(method: Loop, prompt: BenchPrompt, writing: Any) -> Any:
        if method.name == "prompt-lookup" and prompt.text == PROMPTS[2] and memory_known:
            raise KeyboardInterrupt
        return own(method, prompt, writing)

    memory_known: list[bool] = []
    with monkeypatch.context() as patch:
        patch.setattr("outpace.bench.runner.memory.measure", lambda *_: memory_known.append(True))
        patch.setattr(
            "outpace.bench.runner.random.Random.shuffle",
            lambda _, turns: turns.sort(key=lambda one: one.name),
        )
        patch.setattr(Loop, "write", write)
        with pytest.raises(KeyboardInterrupt):
            run(asked)
    journal = Journal(run(study("plain")).path.parent).read()
    assert not journal.of("differences", method="ngram@4")
    assert len([one for one in cells(journal) if one[0] == "ngram@4"]) == 3
    journal = run(asked)
    (found,) = journal.of("differences", method="ngram@4")
    assert [one["prompt"] for one in found["found"]] == [2]
    assert finished(journal, asked.settings()[0])


def test_a_method_that_was_taken_out_does_not_hold_up_the_others(
    study: Make, run: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "ngram@4", RuntimeError("shapes do not match"), 3)
    with pytest.raises(OutpaceError, match="shapes do not match"):
        run(study("plain", "ngram@4"))
    asked = study("plain")
    journal = run(asked)
    assert finished(journal, asked.settings()[0])
    (record,) = [one.record for one in outcomes(asked, journal)]
    assert [one["method"] for one in record["results"]] == ["hf", "plain"]
    assert not record["interrupted"]
    assert len(record["results"][0]["runs"]) == 3


def test_models_of_an_earlier_part_are_let_go(study: Make, target: Path, tmp_path: Path) -> None:
    shutil.copytree(target, tmp_path / "second")
    options = dict(study("plain").options)
    del options["target"]
    names = [str(target), str(tmp_path / "second")]
    text = f'[[parts]]\nname = "a"\nmethods = ["plain"]\naxes = {{ target = {names} }}'
    run = StudyRun(Study.parse("mine", text, options=options), said=lambda _: None)
    run.run(Journal(tmp_path / "out"))
    assert [key[0] for key in run._models._loaded] == names[1:]


def test_what_is_tuned_is_tuned_once_a_law(study: Make) -> None:
    run, found = StudyRun(study("plain")), {"draft_length": 3}
    (setting,) = study("plain").settings()
    run._note_tuned(
        setting, Measured(methods={running.TUNED: Facts(running.TUNED, settings=found)})
    )
    laws = {
        name: study("plain", **{name: value}).settings()[0]
        for name, value in (("max_new_tokens", 99), ("seed", 7), ("top_p", 0.9), ("threads", 1))
    }
    known = {name: running._law(one) in run._tuned for name, one in laws.items()}
    assert known == {"max_new_tokens": True, "seed": True, "top_p": False, "threads": False}


def test_only_a_first_text_is_cold(study: Make, run: Go, tmp_path: Path) -> None:
    text = '[[parts]]\nname = "a"\nmethods = ["plain"]\naxes = { seed = [0, 1] }'
    asked = Study.parse("mine", text, options=dict(study("plain", warmup=1).options))
    journal = run(asked)
    cold = [line["cold"] for line in journal.of("method") if line["name"] == "hf"]
    assert cold[0] > 0
    assert cold[1] is None
    both = [row for row in rows(outcomes(asked, journal), "a") if row.method == "plain"]
    assert both[0].figure("cold_speedup") > 0
    assert both[1].figure("cold_speedup") is None


def test_a_study_can_be_read_from_its_records(study: Make, run: Go) -> None:
    asked = study("plain", "ngram@4", seed=3)
    again = planned(run(asked))
    assert [one.id for one in again.settings()] == [one.id for one in asked.settings()]
    assert dict(again.options) == dict(asked.options)


def test_samples_ask_each_prompt_with_other_seeds(study: Make, run: Go) -> None:
    asked = study("ngram@4", samples=3, temperature=1.0)
    journal = run(asked)
    texts = {(one["method"], one["prompt"]): one["tokens"] for one in journal.of("cell")}
    assert len(texts) == 3 * 9  # hf, plain, ngram
    assert len({texts["plain", number] for number in range(3)}) == 3
    for number in range(9):
        assert texts["plain", number] == texts["ngram@4", number]


def test_costs_are_measured_next_to_each_prompt(study: Make, run: Go, target: Path) -> None:
    asked = Study.parse(
        "mine",
        '[[parts]]\nname = "a"\nmethods = ["plain"]\ncosts = true',
        options=dict(study("plain").options),
    )
    journal = run(asked)
    prompts = journal.of("setting")[0]["texts"]
    lines = journal.of("costs")
    assert len(lines) == len(prompts)
    assert all(list(line["costs"]) == [str(target)] for line in lines)
    assert finished(journal, asked.settings()[0])
    assert len(run(asked).of("costs")) == len(prompts)  # nothing is measured again


def test_prices_of_several_moments_are_their_means() -> None:
    moments = [{"t": {"forward": x}, "d": {"draft": {"1": 2 * x}}} for x in (1.0, 3.0)]
    assert mean_prices(moments) == {"t": {"forward": 2.0}, "d": {"draft": {"1": 4.0}}}


@pytest.mark.usefixtures("wrong")
def test_what_time_drafted_for_a_text_that_differs_is_kept(
    study: Make, run: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outpace.drafters.ngram.NgramDrafter.repeats", False)
    asked = study("plain", "ngram@4")
    journal = run(asked)
    (line,) = journal.of("drafts")
    assert (line["method"], line["prompt"]) == ("ngram@4", 2)
    done = journal.measured(asked.settings()[0].id)
    assert done is not None
    assert done.drafts["ngram@4", 2] == line["drafts"]
    # stopped before it was looked into, another run drafts the same again
    last = next(n for n, one in enumerate(journal.lines) if one["kind"] == "differences")
    raw = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(b"".join(raw[:last]))
    seen: list[Any] = []
    own = Loop.rows

    def rows_of(method: Loop, prompt: BenchPrompt, writing: Any) -> Any:
        seen.append((method.name, method.drafts(prompt)))
        return own(method, prompt, writing)

    monkeypatch.setattr(Loop, "rows", rows_of)
    run(asked)
    assert seen == [("ngram@4", line["drafts"])]
