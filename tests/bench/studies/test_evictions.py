"""A study of cache policies: its file, its figures, and going on with it."""

import csv
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from outpace.bench import evicting
from outpace.bench.metrics import Interval
from outpace.bench.studies import Study, evictions
from outpace.bench.studies.braces import axes_in, filled
from outpace.bench.studies.journal import Journal
from outpace.bench.studies.outcome import Row, outcomes, rows
from outpace.bench.studies.results import write_results
from outpace.bench.studies.run import finished, planned
from outpace.bench.studies.verdict import lead, verdict
from outpace.errors import InvalidArgument, UnknownName

Go = Callable[[Study], Journal]
PART = """
[[parts]]
name = "a"
evicting = {{ texts = {texts}, limit = 2, tokens = 60, first = 10{more} }}
axes = {{ budget = [8, 16] }}
policies = {{ dense = "full", streaming = "streaming(sinks=2, recent={{budget-2}})", \
anew = "windows", all = "key_norm(start_after=1000)" }}
[[parts.tables]]
name = "all"
[[parts.tables]]
name = "pivot"
columns = ["policy_ratio"]
pivot = "{pivot}"
methods = ["streaming", "all"]
[[parts.pictures]]
name = "lines"
x = "{x}"
y = ["policy_ppl", "policy_accuracy"]
series = "method"
methods = ["streaming"]
levels = ["dense"]
"""
TEXTS = [
    "the cat and the dog and the cat sat by the sea and said that dogs do not read " * 2,
    "once upon a time there was a story about the story of a time upon which once was" * 2,
]


@pytest.fixture
def asked(target: Path, tmp_path: Path) -> Callable[..., Study]:
    """Make a study of policies of the tiny model."""
    files = []
    for number in range(2):
        files.append(tmp_path / f"{number}.jsonl")
        files[-1].write_text("".join(json.dumps(text[number:]) + "\n" for text in TEXTS))

    def made(more: str = "", pivot: str = "budget", x: str = "kept") -> Study:
        options = {"target": str(target), "dtype": "float32", "device": "cpu", "runtime": "eager"}
        texts = json.dumps([str(file) for file in files])
        text = PART.format(texts=texts, more=more, pivot=pivot, x=x)
        return Study.parse("mine", text, options=options)

    return made


def by_method(study: Study, journal: Journal, *, groups: bool = False) -> Mapping[Any, Row]:
    found = rows(outcomes(study, journal), "a", groups=groups)
    return {(row.method, row.group) if groups else row.method: row for row in found}


def test_figures(asked: Callable[..., Study], run: Go, tmp_path: Path) -> None:
    study = asked()
    journal = run(study)
    (setting,) = study.settings()
    assert finished(journal, setting)
    names = ["full", "streaming(sinks=2, recent=6)", "streaming(sinks=2, recent=14)", "windows"]
    assert [one.name for one in setting.methods] == [*names, "key_norm(start_after=1000)"]
    assert len(journal.of("scored")) == 5 * 4
    found = by_method(study, journal)
    dense = found["full"]
    assert dense.figure("policy_ratio") == Interval(1.0, 1.0, 1.0)
    assert (dense.figure("kept"), dense.figure("scored")) == (1.0, 4 * 50)
    everything = found["key_norm(start_after=1000)"]
    for name in ("policy_ppl", "policy_ratio", "policy_accuracy", "kept"):
        assert everything.figure(name) == dense.figure(name)
    small, large = (found[name] for name in names[1:3])
    assert small.figure("kept") < large.figure("kept") < 1
    assert small.figure("policy_ratio").value != 1.0
    nats = sum(
        one["nats"] for line in journal.of("scored", method=names[1]) for one in line["stretches"]
    )
    assert small.figure("policy_ppl").value == pytest.approx(math.exp(nats / 200))
    write_results(study, journal, outcomes(study, journal), tmp_path)
    text = (tmp_path / "results.md").read_text()
    assert "Policies read 4 passages" in text
    assert "tokens 11 to 60 of each are scored, 200 in all" in text
    assert "| method | 8 | 16 |" in text
    assert "× hf" not in text
    with (tmp_path / "a-all.csv").open() as file:
        line = next(csv.DictReader(file))
    assert (line["method"], line["scored"]) == ("full", "200")
    assert (tmp_path / "a-lines.png").stat().st_size > 5000
    assert "that of a dense cache" in verdict(study, outcomes(study, journal))[0]
    assert lead(study, outcomes(study, journal))


def test_stretches_and_kinds(asked: Callable[..., Study], run: Go, tmp_path: Path) -> None:
    study = asked(", stretch = 32", pivot="kind", x="context")
    journal = run(study)
    found = by_method(study, journal, groups=True)
    assert {group for _, group in found} == {"1–32", "33–59"}
    row = found["full", "33–59"]
    assert row.axes["context"] == 59
    assert row.figure("scored") == 4 * 27
    write_results(study, journal, outcomes(study, journal), tmp_path)
    assert "| method | 1–32 | 33–59 |" in (tmp_path / "results.md").read_text()
    table = (tmp_path / "results.md").read_text()
    assert "| streaming, budget 8 | " in table
    assert "| streaming, budget 16 | " in table
    assert "| all | 1.000" in table
    assert "| tokens read | method |" not in table  # a row of that table is a whole text


def test_kinds_of_text(asked: Callable[..., Study], run: Go) -> None:
    study = asked()
    found = by_method(study, run(study), groups=True)
    assert {group for _, group in found} == {"0.jsonl", "1.jsonl"}
    assert found["full", "0.jsonl"].figure("scored") == 100


def test_only_what_is_missing_is_read(
    asked: Callable[..., Study], run: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = asked()
    journal = run(study)
    whole = journal.path.read_text().splitlines(keepends=True)
    gone = [n for n, line in enumerate(whole) if '"kind":"scored"' in line][3::6]
    journal.path.write_text("".join(line for n, line in enumerate(whole) if n not in gone))
    read: list[str] = []
    own = evicting.read

    def counted(model: Any, policy: str, *given: Any, **named: Any) -> Any:
        read.append(policy)
        return own(model, policy, *given, **named)

    monkeypatch.setattr(evictions, "read", counted)
    again = run(study)
    assert len(read) == len(gone) > 1

    def plain(one: Journal) -> list[str]:
        keys = ("method", "text", "stretches")
        return sorted(json.dumps([line[key] for key in keys]) for line in one.of("scored"))

    assert plain(again) == plain(journal)
    read.clear()
    run(study)
    assert not read


def test_other_texts_are_refused(asked: Callable[..., Study], run: Go, tmp_path: Path) -> None:
    study = asked()
    journal = run(study)
    raw = journal.path.read_text().splitlines(keepends=True)
    journal.path.write_text("".join(line for line in raw if '"method":"windows"' not in line))
    (tmp_path / "0.jsonl").write_text(json.dumps(TEXTS[1]) + "\n")
    with pytest.raises(InvalidArgument, match="the texts are not those that were read before"):
        run(study)


def test_another_way_to_read_is_another_setting(asked: Callable[..., Study], run: Go) -> None:
    first, second = (asked(more).settings()[0] for more in ("", ", stretch = 32"))
    assert first.id != second.id
    journal = run(asked())
    assert planned(journal).settings()[0].id == first.id
    assert not finished(journal, second)


def test_texts_that_are_too_short(asked: Callable[..., Study], run: Go, tmp_path: Path) -> None:
    study = asked()
    for number in range(2):
        (tmp_path / f"{number}.jsonl").write_text('"short"\n')
    from outpace.errors import PromptError

    with pytest.raises(PromptError, match="has 60 tokens to compare cache policies on"):
        run(study)


def test_a_policy_that_cannot_read_leaves_the_others(
    asked: Callable[..., Study], run: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = evicting.read

    def failing(model: Any, policy: str, *given: Any, **named: Any) -> Any:
        if policy == "windows":
            raise InvalidArgument("no windows here")
        return own(model, policy, *given, **named)

    monkeypatch.setattr(evictions, "read", failing)
    study = asked()
    journal = run(study)
    assert finished(journal, study.settings()[0])
    assert by_method(study, journal)["windows"].why == "no windows here"
    write_results(study, journal, outcomes(study, journal), tmp_path)
    assert "No figures (no windows here): windows." in (tmp_path / "results.md").read_text()


HEAD = '[[parts]]\nname = "a"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('policies = { a = "full" }', "policies without evicting"),
        ("evicting = { limit = 1 }", "give policies, and no methods"),
        ('evicting = {}\nmethods = ["plain"]\npolicies = { a = "full" }', "and no methods"),
        ("evicting = {}\npolicies = { a = 3 }", "policy a is 3: give a text"),
        ('evicting = { token = 3 }\npolicies = { a = "full" }', "did you mean 'tokens'?"),
        ('evicting = { tokens = 1 }\npolicies = { a = "full" }', "tokens is 1: give 2 or more"),
        ('evicting = { first = 1536 }\npolicies = { a = "full" }', "give a smaller number"),
        ('evicting = { texts = 3 }\npolicies = { a = "full" }', "give a list of names"),
        ('evicting = {}\npolicies = { a = "recent(size={b})" }', "unknown axis 'b'"),
        (
            'evicting = {}\npolicies = { a = "recent(size={b-9})" }\naxes = { b = [9] }',
            "size 0: give 1 or more",
        ),
        (
            'evicting = {}\npolicies = { a = "recent(size={b/0})" }\naxes = { b = [9] }',
            "{b/0}: 9 / 0 cannot be worked out: give numbers",
        ),
        (
            'evicting = {}\npolicies = { a = "full" }\n[[parts.tables]]\ncolumns = ["speedup"]',
            "unknown column 'speedup'",
        ),
        (
            'methods = ["plain"]\n[[parts.tables]]\ncolumns = ["kept"]',
            "unknown column 'kept'",
        ),
        (
            'evicting = {}\npolicies = { a = "full" }\n[[parts.pictures]]\nx = "context"',
            "unknown axis 'context'",
        ),
    ],
)
def test_files_that_cannot_be(text: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Study.parse("mine", HEAD + text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_policy_that_is_none() -> None:
    with pytest.raises(UnknownName):
        Study.parse("mine", HEAD + 'evicting = {}\npolicies = { a = "streamin(3)" }')


def test_sums_in_braces() -> None:
    template = "a({K}, {budget-4}, {budget*9/8}, {256-K})"
    assert axes_in(template) == ["K", "budget"]
    assert filled(template, {"K": 3, "budget": 64}) == "a(3, 60, 72, 253)"
    with pytest.raises(InvalidArgument, match="give numbers"):
        filled("{a-1}", {"a": "word"})
