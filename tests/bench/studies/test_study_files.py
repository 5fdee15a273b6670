import re

import pytest

from outpace.bench.studies import Study, study_names
from outpace.bench.studies.options import DEFAULTS
from outpace.bench.studies.pictures import sketches
from outpace.bench.studies.tables import plans
from outpace.errors import InvalidArgument, UnknownName
from outpace.presets import PRESETS

BASE = """
title = "Lengths"
[base]
limit = 2
max_new_tokens = 32
[quick]
limit = 1
[[parts]]
name = "chains"
methods = ["plain", "draft@{K}"]
axes = { K = [2, 3], max_new_tokens = [16, 64] }
quick.axes = { K = [2] }
quick.warmup = 0
"""


def read(text: str = BASE, **given: object) -> Study:
    return Study.parse("mine", text, **given)  # type: ignore[arg-type]


def refused(text: str, *said: str, quick: bool = False) -> None:
    """One line that names what was given and the remedy."""
    with pytest.raises(InvalidArgument) as caught:
        read(text, quick=quick)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("study mine")
    for part in said:
        assert part in message, message


def test_axes_that_are_options_make_settings_others_methods() -> None:
    settings = read().settings()
    assert [one.axes for one in settings] == [{"max_new_tokens": 16}, {"max_new_tokens": 64}]
    assert [one.config["max_new_tokens"] for one in settings] == [16, 64]
    assert [one.label for one in settings] == ["max_new_tokens=16", "max_new_tokens=64"]
    for one in settings:
        names = [method.name for method in one.methods]
        assert names == ["hf", "hf-assisted", "hf-assisted-tuned", "plain", "draft@2", "draft@3"]
        assert one.methods[-1].axes == {"K": 3}
        assert one.methods[-1].template == "draft@{K}"
        assert one.methods[0].template == "hf"
        assert one.config["limit"] == 2


def test_the_quick_form_is_laid_over() -> None:
    settings = read(quick=True).settings()
    assert [one.config["limit"] for one in settings] == [1, 1]
    assert [one.config["warmup"] for one in settings] == [0, 0]
    assert [method.name for method in settings[0].methods][3:] == ["plain", "draft@2"]
    assert read().settings()[0].config["warmup"] == DEFAULTS["warmup"]  # and only there


def test_the_quick_form_is_short_in_every_part() -> None:
    text = BASE.replace("axes = {", "base = { limit = 9, seed = 3 }\naxes = {", 1)
    assert {one.config["limit"] for one in read(text).settings()} == {9}
    quick = read(text, quick=True).settings()
    assert {(one.config["limit"], one.config["seed"]) for one in quick} == {(1, 3)}


def test_an_option_takes_the_place_of_an_axis() -> None:
    settings = read(options={"max_new_tokens": 5, "dtype": "float32"}).settings()
    assert [one.config["max_new_tokens"] for one in settings] == [5]
    assert settings[0].axes == {"max_new_tokens": 5}  # tables and pictures still know it
    assert settings[0].config["dtype"] == "float32"
    assert read(quick=True, options={"limit": 9}).settings()[0].config["limit"] == 9


def test_numbers_are_what_transformers_takes() -> None:
    config = read(options={"temperature": 2, "top_p": 1, "repetition_penalty": 2}).settings()[0]
    for name in ("temperature", "top_p", "repetition_penalty"):
        assert type(config.config[name]) is float


def test_axes_are_crossed() -> None:
    text = BASE.replace("K = [2, 3],", "K = [2, 3], seed = [0, 1, 2],")
    assert len(read(text).settings()) == 6
    text = BASE.replace('"draft@{K}"', '"{D}@{K}"').replace(
        "K = [2, 3],", 'K = [2], D = ["ngram"],'
    )
    assert read(text).settings()[0].methods[-1].axes == {"D": "ngram", "K": 2}


def test_ids_differ_exactly_where_an_option_does() -> None:
    ids = [one.id for one in read().settings()]
    assert len(set(ids)) == 2
    assert [one.id for one in read().settings()] == ids
    assert [one.id for one in read(BASE.replace("Lengths", "Other words")).settings()] == ids
    more = BASE.replace("K = [2, 3]", "K = [2, 3, 4]")  # other methods, and the same setting
    assert [one.id for one in read(more).settings()] == ids
    for name, value in (("seed", 1), ("repeats", 2), ("temperature", 0.5), ("ignore_eos", False)):
        changed = [one.id for one in read(options={name: value}).settings()]
        assert not set(changed) & set(ids), name
    assert ids == [one.id for one in read(options={"limit": 2}).settings()]  # as it was


def test_sampling_adds_plain() -> None:
    text = 'parts = [{ name = "a", methods = ["ngram@4"], base = { temperature = 0.8 } }]'
    names = [method.name for method in read(text).settings()[0].methods]
    assert {"hf", "plain", "ngram@4", "hf-assisted", "hf-assisted-tuned"} == set(names)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title =", "titel =", ["'titel'", "did you mean 'title'"]),
        ("limit = 2", "limits = 2", ["'limits'", "did you mean 'limit'"]),
        ("quick.warmup", "quick.warmpu", ["'warmpu'", "did you mean 'warmup'"]),
        ("methods =", "method =", ["part 'chains'", "'method'", "did you mean 'methods'"]),
        ('"draft@{K}"', '"draft@{K}", "draft@{L}"', ["'draft@{L}'", "'L'", "K"]),
        ('"draft@{K}"', '"draft@{K}", "draft@{seed}"', ["'draft@{seed}'", "'seed'"]),
        ("draft@{K}", "draft@3", ["'K'", "in braces"]),
        ("limit = 2", 'limit = "two"', ["limit is 'two'", "a whole number, 1 or more"]),
        ("limit = 2", "limit = true", ["limit is True", "a whole number"]),
        ("limit = 2", "limit = 0", ["limit is 0", "1 or more"]),
        ("limit = 2", "ignore_eos = 1", ["ignore_eos is 1", "true or false"]),
        ("limit = 2", "prompts = []", ["prompts is []", "a list of workloads"]),
        ("limit = 2", "temperature = -1", ["temperature is -1", "0 or more"]),
        ("[16, 64]", "[16, 0]", ["max_new_tokens is 0", "1 or more"]),
        ("[16, 64]", "16", ["axis max_new_tokens is 16", "give a list"]),
        ("[16, 64]", "[]", ["axis max_new_tokens is []", "give a list"]),
        ('"plain", ', '"plian", ', ["'plian'", "did you mean 'plain'"]),
        ('"plain", ', "3, ", ["methods is", "give a list of names"]),
        ('"plain", ', '"draft@5 with streeming", ', ["'streeming'", "did you mean 'streaming'"]),
        ('"plain", ', '"draft@5 with streaming(", ', ["streaming("]),
        ('"plain", ', '"tree:fixed(deep=3)", ', ["deep"]),
        ('"plain", ', '"beam(beams=0)", ', ["0"]),
        ('"plain", ', '"beam(width=3)", ', ["width"]),
        ('name = "chains"', "name = 3", ["a part: name is 3", "give letters"]),
        ('name = "chains"', "", ["a part: name is None", "give letters"]),
        ("title =", "format = 2\ntitle =", ["format is 2", "give 1"]),
        ("[base]", "[base", ["is no TOML", "mend it"]),
        ("[[parts]]", "[parts]", ["parts", "give tables, as in [[parts]]"]),
        ("[base]\nlimit = 2\nmax_new_tokens = 32\n", "base = 3\n", ["base is 3"]),
        ("quick.axes = { K = [2] }\nquick.warmup = 0", "quick = 3", ["quick is 3"]),
        ("quick.axes = { K = [2] }", "quick.axes = [2]", ["axes is [2]"]),
        ("axes = { K = [2, 3], max_new_tokens = [16, 64] }", "axes = 3", ["axes is 3"]),
        ('"plain", ', '"draft@{", ', ["'draft@{'"]),
        ('"plain", ', '"draft@{}", ', ["'draft@{}'"]),
        ('name = "chains"', 'name = "../chains"', ["name is '../chains'", "give letters"]),
        ("limit = 2", "top_p = 1.5", ["part 'chains': top-p 1.5", "at most 1"]),
        ("limit = 2", "repetition_penalty = 0", ["part 'chains': repetition penalty 0", "above 0"]),
        ("limit = 2", 'runtime = "fast"', ["part 'chains': runtime 'fast'", "choose one of"]),
        ("limit = 2", 'dtype = "float31"', ["part 'chains': unknown dtype 'float31'", "int8"]),
        ("limit = 2", 'draft_length = "gait"', ["part 'chains'", "'gait'", "did you mean 'gate'"]),
        ("[16, 64]", "[16, 64], top_k = [0]", ["top_k is 0", "1 or more"]),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(old: str, new: str, said: list[str]) -> None:
    assert BASE.count(old) >= 1
    refused(BASE.replace(old, new, 1), *said, quick="quick" in old)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('columns = ["sped"]', ["'sped'", "did you mean 'speed"]),
        ('columns = ["ppl", "tau"]\npivot = "K"', ["pivot 'K'", "2 columns", "give one"]),
        ('columns = ["ppl"]\npivot = "L"', ["'L'"]),
        ("colums = []", ["'colums'", "did you mean 'columns'"]),
        ("columns = 5", ["columns is 5", "give a list of names"]),
        ('columns = [["a"]]', ["columns is [['a']]", "give a list of names"]),
        ("methods = 4", ["methods is 4", "give a list of names"]),
        ('name = "a/b"', ["name is 'a/b'", "give letters"]),
        ("[[parts.tables]]", ["tables table, table", "give each another name"]),
    ],
)
def test_tables_are_read_before_anything_is_measured(table: str, said: list[str]) -> None:
    refused(f"{BASE}[[parts.tables]]\n{table}\n", *said)


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        ('kind = "pie"', ["'pie'", "lines"]),
        ('x = "L"', ["'L'"]),
        ('x = "K"\ny = ["sped"]', ["'sped'"]),
        ('x = "K"\nwidth = 3', ["'width'"]),
        ('x = "K"\ny = 1', ["y is 1", "give a list of names"]),
        ('x = "K"\n[[parts.pictures]]\nx = "K"', ["pictures lines, lines", "another name"]),
    ],
)
def test_so_are_pictures(picture: str, said: list[str]) -> None:
    refused(f"{BASE}[[parts.pictures]]\n{picture}\n", *said)


def test_a_file_without_parts() -> None:
    refused('title = "x"', "no [[parts]]", "give one or more")
    two = 'parts = [{ name = "a", methods = ["plain"] }, { name = "a", methods = ["plain"] }]'
    refused(two, "parts a, a", "another name")


def test_no_such_study() -> None:
    with pytest.raises(UnknownName, match=r"'methdos' \(did you mean 'methods'\?\).*NAME\.toml"):
        Study.read("methdos")
    with pytest.raises(InvalidArgument, match=r"nothing/mine\.toml: No such file.*give another"):
        Study.read("nothing/mine.toml")


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("name", study_names())
def test_every_study_that_comes_along_can_be_read(name: str, quick: bool) -> None:
    study = Study.read(name, quick=quick)
    assert study.question.endswith("?")
    settings = study.settings()
    assert len({one.id for one in settings}) == len(settings)
    for one in settings:
        names = {method.name for method in one.methods}
        assert one.evictions is not None or {"hf", "hf-assisted", "hf-assisted-tuned"} <= names
        assert not [method for method in one.methods if re.search("[{}]", method.name)]
    for part in study.parts:
        assert plans(part)
        sketches(part)


@pytest.mark.parametrize("name", study_names())
@pytest.mark.parametrize(
    ("option", "value"), [("prompts", ["mine.txt"]), ("target", "mine"), ("limit", 1)]
)
def test_options_leave_every_study_whole(name: str, option: str, value: object) -> None:
    study = Study.read(name, options={option: value})
    for part in study.parts:
        assert plans(part)
        sketches(part)
    assert {str(one.config[option]) for one in study.settings()} == {str(value)}


def test_the_study_of_presets_runs_the_presets() -> None:
    measured = {method.name for one in Study.read("presets").settings() for method in one.methods}
    for preset in PRESETS.values():
        name = f"draft@{preset.draft_length}"
        if preset.policy is not None:
            name += f" with {preset.policy}/{preset.policy}"
        if preset.dtype is not None:
            name += f" in {preset.dtype}/{preset.dtype}"
        assert name in measured
