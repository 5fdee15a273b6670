"""What a study measures of precisions: next to each other, and each in a process of its own."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from mine import PROMPTS

from outpace.bench.alone import Errand, Found
from outpace.bench.alone import run as here
from outpace.bench.studies import Study, precisions
from outpace.bench.studies.journal import Journal
from outpace.bench.studies.outcome import Row, outcomes, rows
from outpace.bench.studies.results import write_results
from outpace.bench.studies.run import finished, planned
from outpace.errors import InvalidArgument, UnknownName

Go = Callable[[Study], Journal]
PART = """
[[parts]]
name = "a"
methods = ["plain", "plain in {{precision}}", "prompt-lookup@3 in {{precision}}"]
axes = {{ precision = {precisions} }}
alone = {{ texts = {texts}, limit = 2, tokens = 8 }}
[[parts.tables]]
name = "all"
columns = ["weights", "text_ppl", "kl", "kl_p99", "top1", "alone_loading", "alone_peak", \
"alone_growth", "alone_reserved", "joules", "same"]
[[parts.pictures]]
name = "grid"
kind = "grid"
x = "precision"
y = ["tokens_per_second", "tpot", "ttft", "kl", "text_ppl", "alone_peak"]
"""


@pytest.fixture
def errands(monkeypatch: pytest.MonkeyPatch) -> list[Errand]:
    """Run them in this process; all that were sent."""
    sent: list[Errand] = []

    def alone(errand: Errand) -> Found:
        sent.append(errand)
        return here(errand)

    monkeypatch.setattr(precisions, "alone", alone)
    return sent


@pytest.fixture
def asked(target: Path, tmp_path: Path) -> Callable[..., Study]:
    """Make a study of precisions of the tiny model."""
    prompts = tmp_path / "mine.jsonl"
    prompts.write_text("".join(f'"{text}"\n' for text in PROMPTS))

    def made(*names: str, **options: object) -> Study:
        base = {
            "target": str(target),
            "device": "cpu",
            "runtime": "eager",
            "prompts": [str(prompts)],
            "limit": 2,
            "max_new_tokens": 8,
            "warmup": 0,
            **options,
        }
        text = PART.format(precisions=json.dumps(names), texts=json.dumps([str(prompts)]))
        return Study.parse("mine", text, options=base)

    return made


def by_method(study: Study, journal: Journal) -> dict[str, Row]:
    return {row.method: row for row in rows(outcomes(study, journal), "a")}


def page(study: Study, journal: Journal, folder: Path) -> str:
    write_results(study, journal, outcomes(study, journal), folder)
    return (folder / "results.md").read_text()


def test_each_precision_is_measured_alone_and_beside_the_others(
    asked: Callable[..., Study], run: Go, errands: list[Errand], tmp_path: Path
) -> None:
    study = asked("bfloat16", "int8")
    journal = run(study)
    (setting,) = study.settings()
    assert finished(journal, setting)
    names = ["plain", *(f"{m} in {p}" for p in ("bfloat16", "int8") for m in ("plain",))]
    names += [f"prompt-lookup@3 in {p}" for p in ("bfloat16", "int8")]
    assert {line["method"] for line in journal.of("alone")} == set(names)
    memory = [errand for errand in errands if errand.method is not None]
    assert [(e.method, e.dtype) for e in memory if e.method != "plain"] == [
        ("prompt-lookup@3", "bfloat16"),
        ("prompt-lookup@3", "int8"),
    ]
    assert not any(errand.texts for errand in memory)
    reading = [errand for errand in errands if errand.texts]
    # the widest one leaves its laws, though nobody asked for it
    assert [(e.dtype, e.reference is None) for e in reading] == [
        ("float32", True),
        ("float32", False),
        ("bfloat16", False),
        ("int8", False),
    ]
    assert not Path(str(reading[0].keep)).exists()
    found = by_method(study, journal)
    for name in names:
        assert found[name].figure("alone_peak") > found[name].figure("alone_growth")
        assert found[name].figure("kl").value > 0
    wide, narrow = (found[f"plain in {one}"] for one in ("bfloat16", "int8"))
    assert found["plain"].figure("kl") == wide.figure("kl")  # the same precision
    assert narrow.figure("kl").value > 2 * wide.figure("kl").value
    assert narrow.figure("weights") < wide.figure("weights")
    assert narrow.result is not None
    assert narrow.result["compared_with"] is None  # its own text is what others are held against
    lookup = found["prompt-lookup@3 in int8"].result
    assert lookup is not None
    assert (lookup["identical"], lookup["compared_with"]) == (True, "plain in int8")
    text = page(study, journal, tmp_path)
    assert "reserved MB" not in text  # there is no GPU
    assert "J/token" not in text
    assert (tmp_path / "a-grid.png").stat().st_size > 10_000


def test_the_widest_compared_with_itself(
    asked: Callable[..., Study], run: Go, errands: list[Errand]
) -> None:
    study = asked("float32", "int8", dtype="float32")
    found = by_method(study, run(study))
    row = found["plain in float32"]
    assert row.figure("kl").value == 0
    assert row.figure("kl_p99") == 0
    assert row.figure("top1").value == 1
    assert found["plain in int8"].figure("kl").value > 0
    assert row.result is not None
    assert row.result["compared_with"] == "hf"  # no other target than that of all


def test_the_widest_that_fits(
    asked: Callable[..., Study],
    run: Go,
    errands: list[Errand],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    sent = precisions.alone

    def small(errand: Errand) -> Found:
        if errand.dtype == "float32":
            return Found(refused="out of memory (nothing left)", ran_out=True)
        return sent(errand)

    monkeypatch.setattr(precisions, "alone", small)
    study = asked("bfloat16", "int8")
    journal = run(study)
    assert {line["reference"] for line in journal.of("quality")} == {"bfloat16"}
    text = page(study, journal, tmp_path)
    assert "2 passages of" in text
    assert "without a BOS" in text
    assert "are against bfloat16" in text
    (line,) = journal.of("quality", precision="bfloat16")
    assert line["quality"]["kl"] == [0.0, 0.0]


def test_what_is_missing_is_measured_later(
    asked: Callable[..., Study], run: Go, errands: list[Errand], tmp_path: Path
) -> None:
    study = asked("bfloat16", "int8")
    journal = run(study)
    gone = ('"kind":"quality"', '"method":"plain in int8"')
    whole = journal.path.read_text().splitlines(keepends=True)
    kept = [
        line
        for line in whole
        if not (gone[0] in line and '"precision":"int8"' in line)
        and not ('"kind":"alone"' in line and gone[1] in line)
    ]
    assert len(kept) == len(whole) - 2
    journal.path.write_text("".join(kept))
    errands.clear()
    again = run(study)
    assert [errand.dtype for errand in errands] == ["int8", "float32", "float32", "int8"]
    assert len(again.of("quality")) == 2
    before = {line["precision"]: line["quality"] for line in journal.of("quality")}
    assert {line["precision"]: line["quality"] for line in again.of("quality")} == before
    assert len(again.of("cell")) == len(journal.of("cell"))  # no text is written again


def test_what_a_process_refuses_is_said(
    asked: Callable[..., Study],
    run: Go,
    errands: list[Errand],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    sent = precisions.alone

    def failing(errand: Errand) -> Found:
        short = errand.dtype == "int8" and errand.texts
        return Found(refused="its logits are no numbers") if short else sent(errand)

    monkeypatch.setattr(precisions, "alone", failing)
    study = asked("bfloat16", "int8")
    journal = run(study)
    assert "int8, in a process of its own: its logits are no numbers" in page(
        study, journal, tmp_path
    )
    assert by_method(study, journal)["plain in int8"].figure("kl") is None


def test_a_precision_that_cannot_be_had_leaves_the_others(
    asked: Callable[..., Study], run: Go, errands: list[Errand]
) -> None:
    study = asked("bfloat16", "int4", "fp8")  # of the wrong sizes; no GPU
    journal = run(study)
    (setting,) = study.settings()
    assert finished(journal, setting)
    why = {line["method"]: line["why"] for line in journal.of("unusable")}
    assert "needs a multiple of 64" in why["plain in int4"]
    assert "fp8 on cpu" in why["prompt-lookup@3 in fp8"]
    assert {line["precision"] for line in journal.of("quality")} == {"bfloat16"}


def test_precisions_apart(
    asked: Callable[..., Study], run: Go, errands: list[Errand], tmp_path: Path
) -> None:
    study = asked("bfloat16", "int8", apart=True)
    settings = study.settings()
    assert [one.axes for one in settings] == [{"precision": "bfloat16"}, {"precision": "int8"}]
    assert [one.config["dtype"] for one in settings] == ["bfloat16", "int8"]
    for one in settings:
        names = [method.name for method in one.methods]
        assert names[3:] == ["plain", "prompt-lookup@3"]
    journal = run(study)
    assert all(finished(journal, one) for one in settings)
    assert [e.dtype for e in errands if e.keep is not None] == ["float32"]  # once for all
    found = list(rows(outcomes(study, journal), "a"))
    narrow = next(r for r in found if r.method == "plain" and r.axes["precision"] == "int8")
    assert narrow.figure("kl").value > 0
    assert narrow.result is not None
    assert any("(int8)" in name for name in narrow.result["weight_bytes"])
    write_results(study, journal, outcomes(study, journal), tmp_path)
    assert (tmp_path / "a-grid.png").exists()


def test_other_values_of_an_axis(asked: Callable[..., Study], tmp_path: Path) -> None:
    text = asked("bfloat16").text
    study = Study.parse("mine", text, axes={"precision": ["int8"]})
    names = [method.name for method in study.settings()[0].methods]
    assert "plain in int8" in names
    assert "plain in bfloat16" not in names
    with pytest.raises(InvalidArgument, match=re.escape("study mine: unknown axis 'K'")):
        Study.parse("mine", text, axes={"K": [1]})
    with pytest.raises(UnknownName, match="unknown dtype 'int3'"):
        Study.parse("mine", text, axes={"precision": ["int3"]})


def test_the_axes_are_part_of_the_plan(
    asked: Callable[..., Study], run: Go, errands: list[Errand]
) -> None:
    made = asked("bfloat16")
    study = Study.parse("mine", made.text, options=made.options, axes={"precision": ["int8"]})
    assert dict(planned(run(study)).axes) == {"precision": ["int8"]}


@pytest.mark.parametrize(
    ("alone", "said"),
    [
        ("{ texts = 3 }", "texts is 3: give a list of names"),
        ("{ texts = ['pg19'], limit = 0 }", "limit is 0: give 1 or more"),
        ("{ tokens = 1 }", "tokens is 1: give 2 or more"),
        ("{ text = ['a'] }", "unknown key 'text' (did you mean 'texts'?)"),
        ("3", "alone is 3: give a table"),
    ],
)
def test_readings_that_cannot_be(alone: str, said: str) -> None:
    text = f'[[parts]]\nname = "a"\nmethods = ["plain"]\nalone = {alone}'
    with pytest.raises(InvalidArgument) as caught:
        Study.parse("mine", text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
