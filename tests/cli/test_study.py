"""``outpace study`` and ``outpace report`` on a command line."""

import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from commandline import Run
from studies import lines, write_study
from test_bad_input import check

from outpace.bench.loop import Loop
from outpace.bench.studies import pair_names, study_names
from outpace.cli import main

Whole = tuple[Path, Path]


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The quick form of a study that ran through: its file and its folder."""
    place = tmp_path_factory.mktemp("quick")
    file = write_study(place, folder, ("plain", "ngram@3"), tokens=6)
    assert main(["study", str(file), "--quick", "--out", str(place / "out")]) == 0
    return file, place / "out"


def test_studies_are_listed(run: Run) -> None:
    ran = run("study")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.out.splitlines()] == [*study_names(), *pair_names()]
    assert all(len(line.split()) > 1 for line in ran.out.splitlines())


def test_what_a_folder_holds(whole: Whole) -> None:
    out = whole[1]
    names = {path.name for path in out.iterdir()}
    tables = {f"lengths-speed.{kind}" for kind in ("csv", "tex", "svg", "png")}
    assert names == {"records.jsonl", "report.html", "results.md", *tables}
    page = (out / "results.md").read_text()
    assert "Does it go on?" in page
    assert "Quick form" in page
    assert "--quick" in lines(out, "run")[0]["command"]
    assert "it needs a draft model: give --drafter" in page  # why hf-assisted has no figures
    ElementTree.fromstring((out / "lengths-speed.svg").read_text())


def test_a_report_is_drawn_again_byte_by_byte(run: Run, whole: Whole, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(whole[1], out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for name in before:
        if name != "records.jsonl":
            (out / name).unlink()
    ran = run("report", out)
    assert ran.code == 0
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert after.keys() == before.keys()
    for name in before:
        if not name.endswith(".png"):
            assert after[name] == before[name], name


def test_a_report_needs_neither_models_nor_prompts(
    run: Run, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole[1], tmp_path / "copy")
    for name in ("models.load", "run.load_prompts"):
        monkeypatch.delattr(f"outpace.bench.studies.{name}")
    assert run("report", tmp_path / "copy").code == 0


def test_the_command_of_the_record_is_said(whole: Whole) -> None:
    command = lines(whole[1], "run")[0]["command"]
    assert command == f"outpace study {whole[0]} --quick --out {whole[1]}"


def test_a_folder_with_records_wants_a_word(run: Run, whole: Whole) -> None:
    file, out = whole
    said = ("holds the records of a study already", "give --resume", "another --out")
    check(run("study", file, "--quick", "--out", out), out, *said)


def test_another_form_is_refused(run: Run, whole: Whole) -> None:
    file, out = whole
    ran = run("study", file, "--out", out, "--resume")
    check(ran, out, "holds the quick form of tiny", "give the same, or another --out")
    ran = run("study", file, "--quick", "--dtype", "float32", "--out", out, "--resume")
    check(ran, "with the options of its file", "give the same")
    ran = run("study", "gamma", "--quick", "--out", out, "--resume")
    check(ran, "holds the quick form of tiny")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gama"], ["unknown study 'gama' (did you mean 'gamma'?)", "or a file NAME.toml"]),
        (["nothing.toml"], ["nothing.toml: No such file", "give another file"]),
        (["gamma", "--limit", "0"], ["limit is 0", "1 or more"]),
        (["gamma", "--limit", "x"], ["'x' is no whole number"]),
        (["gamma", "--out", "/proc/nothing"], ["/proc/nothing cannot be written"]),
    ],
)
def test_bad_input(run: Run, words: list[str], said: list[str]) -> None:
    check(run("study", *words), *said)


def test_no_folder_to_write(run: Run, whole: Whole, tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    check(run("study", whole[0], "--out", place), f"{place} is no folder", "another --out")


def test_nothing_to_report(run: Run, tmp_path: Path) -> None:
    said = ("no records.jsonl that can be read", "give the folder of a study")
    check(run("report", tmp_path), tmp_path, *said)
    check(run("report", tmp_path / "nothing"), tmp_path / "nothing", *said)
    (tmp_path / "records.jsonl").write_text("")
    check(run("report", tmp_path), "no plan of a study in it", "give another folder")
    (tmp_path / "records.jsonl").write_text('{"kind":"plan"}\nnonsense\n{"kind":"end"}\n')
    check(run("report", tmp_path), "line 2 is no record")


def test_a_report_of_a_study_that_has_measured_nothing(
    run: Run, whole: Whole, tmp_path: Path
) -> None:
    raw = (whole[1] / "records.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "records.jsonl").write_bytes(b"".join(raw[:2]))
    ran = run("report", tmp_path)
    assert ran.code == 0, ran.err
    assert "Nothing is measured yet." in ran.out


def test_options_take_the_place_of_the_files(run: Run, whole: Whole, tmp_path: Path) -> None:
    prompts = tmp_path / "other.txt"
    prompts.write_text("once upon a time")
    ran = run("study", whole[0], "--quick", "--prompts", prompts, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    heads = lines(tmp_path / "out", "setting")
    assert [head["texts"] for head in heads] == [[["other.txt", "other.txt"]]] * 2
    assert re.search(r"--prompts \S+other\.txt", lines(tmp_path / "out", "run")[0]["command"])


def test_no_time_stamp_or_path_of_the_machine_in_pictures(whole: Whole) -> None:
    svg = (whole[1] / "lengths-speed.svg").read_text()
    assert "dc:date" not in svg
    assert str(whole[1].parent) not in svg


def test_a_text_that_differs_is_told_by_the_exit_code(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Loop.write

    def write(method: Loop, *given: Any) -> Any:
        sample = own(method, *given)
        if method.name == "ngram@3":
            sample.tokens[-1] ^= 1
        return sample

    monkeypatch.setattr(Loop, "write", write)
    file = write_study(tmp_path, folder, ("plain", "ngram@3"), tokens=6)
    ran = run("study", file, "--quick", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "texts differ from hf" in ran.out


def test_of_all_studies_one_that_fails_leaves_the_others(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = write_study(tmp_path, folder, ("plain",), tokens=6)
    bad = tmp_path / "bad.toml"
    bad.write_text(good.read_text().replace(str(folder), str(tmp_path / "nothing")))
    monkeypatch.setattr("outpace.bench.studies.study_names", lambda: [str(bad), str(good)])
    ran = run("study", "all", "--quick", "--out", tmp_path / "out")
    assert ran.code == 2
    assert ran.err.count("outpace: ") == 1
    assert "nothing" in ran.err
    assert (tmp_path / "out" / "tiny" / "report.html").stat().st_size > 0
