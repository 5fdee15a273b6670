import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from outpace.bench.document import Table
from outpace.bench.measured import Facts, text_hash
from outpace.bench.metrics import Interval
from outpace.bench.sample import Sample
from outpace.bench.studies import Study
from outpace.bench.studies.columns import COLUMNS
from outpace.bench.studies.journal import Journal, Recorder
from outpace.bench.studies.outcome import Row, outcomes, rows
from outpace.bench.studies.pictures import COLOURS, INK, Sketch, as_svg, picture, sketches, themed
from outpace.bench.studies.tables import comma_separated, latex, markdown, plans

STUDY = """
[[parts]]
name = "a"
methods = ["plain", "draft@{K}", "draft@2 with streaming"]
axes = { K = [1, 2], seed = [0, 1] }
[[parts.tables]]
name = "speed"
columns = ["speedup", "speedup_vs_plain", "acceptance", "itl", "ppl"]
[[parts.tables]]
name = "pivoted"
columns = ["speedup"]
pivot = "seed"
[[parts.tables]]
name = "kinds"
columns = ["speedup", "speedup_vs_plain", "length"]
kinds = true
methods = ["draft@{K}"]
[[parts.tables]]
name = "by-kind"
columns = ["ppl"]
pivot = "kind"
[[parts.pictures]]
name = "lines"
x = "K"
y = ["speedup", "acceptance"]
panels = "kind"
[[parts.pictures]]
name = "bars"
kind = "bars"
[[parts.pictures]]
name = "depths"
kind = "depths"
[[parts.pictures]]
name = "memory"
kind = "memory"
"""
TEXTS = [("pg19", "one"), ("songs", "two")]
SECONDS = {"hf": (8.0, 8.0), "plain": (4.0, 8.0), "draft@1": (2.0, 4.0), "draft@2": (1.0, 4.0)}
SPACE = "\N{NO-BREAK SPACE}"


@pytest.fixture
def made(tmp_path: Path) -> tuple[Study, Journal]:
    """A study of which both settings are measured, by hand."""
    study = Study.parse("mine", STUDY)
    journal = Journal(tmp_path)
    with journal.writing():
        journal.add("run", number=1, environment={}, command="")
        for setting in study.settings():
            names = [one.name for one in setting.methods]
            head = {"methods": names, "reference": "hf", "repeats": 1, "cut": 0}
            journal.add("setting", id=setting.id, run=1, texts=TEXTS, sha256="0", **head)
            keeping = Recorder(journal, setting.id, 1, {}, str)
            keeping.unusable("hf-assisted", "too old")
            keeping.unusable("hf-assisted-tuned", "too old")
            keeping.unusable("draft@2 with streaming", "missing: there is no cache policy")
            for name, seconds in SECONDS.items():
                drafts = name.startswith("draft")
                keeping.method(Facts(name, reference="hf", weights={"m": 10**7}))
                for prompt, time in enumerate(seconds):
                    tokens = [10 * prompt + place for place in range(8)]
                    one = Sample(tokens, time, 0.5, 1, 4, 8, 24 * drafts, 12 * drafts, 10**6)
                    one.offered, one.kept = ([24], [12]) if drafts else ([], [])
                    keeping.sample(name, (prompt, 0), one)
                    keeping.surprise(prompt, text_hash(tokens), 8.0 * prompt)
    return study, Journal(tmp_path).read()


def table(made: tuple[Study, Journal], name: str) -> tuple[Table, list[dict[str, str]]]:
    """Return a table, and the lines of its CSV."""
    study, journal = made
    part = study.parts[0]
    plan = next(plan for plan in plans(part) if plan.name == name)
    members = list(rows(outcomes(study, journal), "a", groups=plan.kinds))
    values = comma_separated(plan.values(members))
    return plan.table(members, part), list(csv.DictReader(io.StringIO(values)))


def test_rows_are_settings_by_methods(made: tuple[Study, Journal]) -> None:
    found, values = table(made, "speed")
    assert found.head[:4] == ["seed", "method", "× hf [95 %]", "× plain [95 %]"]
    assert len(found.rows) == 2 * 8  # with what a method that forgets is compared with
    by_method = {row[1]: row for row in found.rows if row[0] == "1"}
    assert by_method["draft@2"][2].startswith(f"3.20{SPACE}[")
    assert by_method["draft@2"][3].startswith(f"2.40{SPACE}[")
    assert by_method["hf"][2].startswith(f"1.00{SPACE}[")
    assert by_method["draft@1"][4] == "50%"
    assert {row["seed"] for row in values} == {"0", "1"}


def test_a_method_without_figures_says_why(made: tuple[Study, Journal]) -> None:
    found, values = table(made, "speed")
    empty = next(row for row in found.rows if row[1] == "draft@2 with streaming")
    assert empty[2:] == ["–"] * 5
    assert found.note.count("(missing: there is no cache policy): draft@2 with streaming.") == 1
    line = next(row for row in values if row["method"] == "draft@2 with streaming")
    assert line["why"].startswith("missing")
    assert line["speedup"] == line["ppl"] == ""
    assert {row["why"] for row in values if row["method"] == "plain"} == {""}


def test_a_pivot_makes_columns_of_values(made: tuple[Study, Journal]) -> None:
    found, _ = table(made, "pivoted")
    assert found.head == ["method", "0", "1"]
    assert [row[0] for row in found.rows][-1] == "draft@2"  # what has no figures is left out
    assert found.rows[-1][1] == found.rows[-1][2]
    kinds, _ = table(made, "by-kind")
    assert kinds.head[:2] == ["seed", "method"]
    plain = next(row for row in kinds.rows if row[:2] == ["0", "plain"])
    assert {"1.00", "2.72"} <= set(plain)  # no nats, and one a token


def test_every_kind_of_text_has_figures_of_its_own(made: tuple[Study, Journal]) -> None:
    found, values = table(made, "kinds")
    assert found.head[:3] == ["seed", "texts", "method"]
    assert len(found.rows) == 2 * 2 * 2
    assert {row["method"] for row in values} == {"draft@1", "draft@2"}
    first = {row["kind"]: row for row in values if (row["seed"], row["method"]) == ("0", "draft@2")}
    assert [float(first[kind]["speedup"]) for kind in ("pg19", "songs")] == [8.0, 2.0]
    assert [float(first[kind]["speedup_vs_plain"]) for kind in ("pg19", "songs")] == [4.0, 2.0]


def test_plain_values_are_numbers(made: tuple[Study, Journal]) -> None:
    _, values = table(made, "speed")
    line = next(row for row in values if row["method"] == "draft@2")
    assert float(line["speedup"]) == 3.2
    assert float(line["speedup_low"]) < 3.2 < float(line["speedup_high"])
    assert float(line["acceptance"]) == 0.5
    assert float(line["ppl"]) == pytest.approx(2.718281828**0.5)
    assert line["itl"] == ""


def test_an_interval_that_is_too_wide_has_a_mark() -> None:
    show = COLUMNS["speedup"].show
    assert show(Interval(1.5, 1.4, 1.6)).replace(SPACE, " ") == "1.50 [1.40, 1.60]"
    assert show(Interval(1.1, 0.9, 1.3)).replace(SPACE, " ") == "1.10 [0.90, 1.30] ?"
    assert show(Interval(1.5, None, None)).replace(SPACE, " ") == "1.50 (–)"


def test_markdown_keeps_its_columns() -> None:
    one = Table("a", "A", ["method", "x|y"], [["a|b", "1"], ["c", "–"]], "A note.")
    text = markdown(one).splitlines()
    assert text[0] == r"| method | x\|y |"
    assert text[2] == r"| a\|b | 1 |"
    assert text[-1] == "A note."
    for line in text[:4]:
        assert len(re.findall(r"(?<!\\)\|", line)) == 3


def test_latex_has_no_special_character_left(made: tuple[Study, Journal]) -> None:
    nasty = r"a_b & 5% # $x {y} ~ ^ \n"
    text = latex(Table("a", "A", ["method", "α ± ρ"], [[nasty, "× – −1 …"]]))
    assert (
        r"a\_b \& 5\% \# \$x \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}n" in text
    )
    assert r"$\times$ -- $-$1 \ldots{}" in text
    for name in ("speed", "pivoted", "kinds"):
        found, _ = table(made, name)
        body = latex(found)
        lines = body.splitlines()
        assert lines[1] == rf"\begin{{tabular}}{{l{'r' * (len(found.head) - 1)}}}"
        for rule in ("toprule", "midrule", "bottomrule"):
            assert body.count("\\" + rule) == 1
        assert lines[-1] == r"\end{tabular}"
        assert body.isascii()
        for line in lines[3:-2]:
            if line != r"\midrule":
                assert len(re.findall(r"(?<!\\)&", line)) == len(found.head) - 1
                assert line.endswith(r" \\")


def drawings(made: tuple[Study, Journal]) -> list[tuple[str, str]]:
    """Return each picture as it stands in a page, and as a file."""
    study, journal = made
    part, found = study.parts[0], []
    for sketch in sketches(part):
        members: list[Row] = list(rows(outcomes(study, journal), "a", groups=sketch.kinds))
        figure = sketch.figure(members)
        found.append((picture(sketch, part, figure).svg, as_svg(figure)))
    return found


def strange_colours(svg: str) -> list[str]:
    return re.findall(r"#[0-9a-fA-F]{6}\b", svg)


def test_pictures_take_the_colours_of_the_page(made: tuple[Study, Journal]) -> None:
    for svg, file in drawings(made):
        element = ElementTree.fromstring(svg)
        assert not {"width", "height"} & element.attrib.keys()
        assert "viewBox" in element.attrib
        assert strange_colours(svg) == []
        assert "currentColor" in svg
        assert "var(--series-1)" in svg
        assert not re.search(r'(href|src)="(?!#)', svg)
        assert "<script" not in svg
        assert "@import" not in svg
        # the negative control: the file for other programs has all of these
        root = ElementTree.fromstring(file)
        assert {"width", "height"} <= root.attrib.keys()
        assert {INK, COLOURS[0]} <= set(strange_colours(file))


def test_a_colour_of_its_own_would_be_found() -> None:
    assert strange_colours(themed('<svg width="3"><path style="fill: #123456"/></svg>'))


def test_pictures_are_the_same_bytes_again(made: tuple[Study, Journal]) -> None:
    assert drawings(made) == drawings(made)


def test_depths_that_were_hardly_tried_are_not_drawn(made: tuple[Study, Journal]) -> None:
    study, journal = made
    depths = next(sketch for sketch in sketches(study.parts[0]) if sketch.kind == "depths")
    members = list(rows(outcomes(study, journal), "a"))
    assert depths.figure(members) is not None
    assert depths.figure([row for row in members if row.method == "plain"]) is None
    for row in members:
        if row.result is not None and row.method == "draft@1":
            row.result["per_depth_tried"] = [9]
    assert depths.figure([row for row in members if row.method == "draft@1"]) is None


def test_panels_say_what_they_are_of(made: tuple[Study, Journal]) -> None:
    study, journal = made
    bars = Sketch.of({"kind": "bars", "panels": "seed"}, study.parts[0])
    members = list(rows(outcomes(study, journal), "a"))
    assert ">seed 0</text>" in as_svg(bars.figure(members))


def test_nothing_to_draw(made: tuple[Study, Journal]) -> None:
    study, journal = made
    none = [row for row in rows(outcomes(study, journal), "a") if row.result is None]
    assert none
    assert [sketch.figure(none) for sketch in sketches(study.parts[0])] == [None] * 4
