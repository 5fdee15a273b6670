"""``outpace tune`` and ``--recipe``, on tiny models."""

import json
from pathlib import Path
from typing import Any

import pytest
from commandline import PROMPT, Ran, Run
from test_bad_input import check

from outpace.bench.tuning import Tuning
from outpace.recipe import Recipe

pytestmark = pytest.mark.usefixtures("threads")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "mine.jsonl"
    file.write_text('"the cat and the dog and the cat"\n{"prompt": "once upon a time"}\n')
    return file


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "recipe.toml"


@pytest.fixture
def tune(run: Run, folder: Path, similar: Path, prompts: Path, out: Path) -> Run:
    """Run ``outpace tune`` on a tiny pair."""

    def ran(*words: object) -> Ran:
        fixed = ("tune", "--target", folder, "--drafter", similar, "--drafter", "prompt-lookup")
        fixed += ("--prompts", prompts, "--dtype", "float32", "--max-new-tokens", 8)
        return run(*fixed, "--lengths", "1,2", "--no-trees", "--recipe", out, *words)

    return ran


def test_tables_sentence_and_recipe(
    tune: Run, folder: Path, similar: Path, out: Path, tmp_path: Path
) -> None:
    ran = tune("--json", tmp_path / "out.json")
    assert ran.code == 0, ran.err
    for said in ("ms a forward", "A forward over so many tokens", "Accepted at each depth"):
        assert said in ran.out
    for name in ("plain", f"{similar}@1", f"{similar}@2", f"{similar} gate", "prompt-lookup gate"):
        assert f" {name} " in ran.out
    assert "Use " in ran.out or "Speculation does not pay" in ran.out
    assert "of 3 steps" in ran.err  # progress is told on standard error
    assert "of 3 steps" not in ran.out
    recipe = Recipe.read(out)
    assert recipe.target == str(folder)
    assert recipe.threads
    record = json.loads((tmp_path / "out.json").read_text())
    measured = record["measured_tokens_per_second"]
    assert measured == recipe.measured["measured_tokens_per_second"]
    assert record["predicted_tokens_per_second"].keys() == measured.keys()
    assert record["config"]["lengths"] == [1, 2]


def test_trees_or_none(tune: Run, out: Path) -> None:
    ran = tune("--tree", "fixed(depth=2)")
    check(ran, "--tree 'fixed(depth=2)' with --no-trees: give one of them")
    assert not out.exists()


def test_nothing_is_overwritten(tune: Run, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out.write_text("mine")
    monkeypatch.setattr("outpace.models.load", lambda *_, **__: pytest.fail("loaded"))
    check(tune(), f"{out} is there already", "--force", "--recipe another name")
    assert out.read_text() == "mine"


def test_unless_it_is_wanted(tune: Run, out: Path) -> None:
    out.write_text("mine")
    assert tune("--force").code == 0
    assert Recipe.read(out).costs is not None or Recipe.read(out).drafter == "none"


@pytest.mark.parametrize("step", ["price", "trace", "measure"])
def test_interrupted(
    tune: Run, out: Path, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = getattr(Tuning, step)

    def upset(tuning: Tuning, notify: Any) -> None:
        own(tuning, notify)
        raise KeyboardInterrupt

    monkeypatch.setattr(Tuning, step, upset)
    ran = tune("--json", tmp_path / "out.json")
    assert ran.code == 130
    assert "no recipe is written" in ran.err
    assert not out.exists()
    assert not (tmp_path / "out.json").exists()
    # what is known is shown: each step shows more
    shown = [part in ran.out for part in ("ms a forward", "Accepted", "predicted", "plain")]
    assert shown == {"price": [False] * 4, "trace": [True, False, True, True]}.get(step, [True] * 4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lengths", "1,x"], ["--lengths '1,x'", "give whole numbers, as in 1,2,3"]),
        (["--lengths", ","], ["--lengths ','", "give whole numbers"]),
        (["--lengths", "0"], ["draft length 0"]),
        (["--lengths", "64"], ["draft length 64: give 1 to 63"]),
        (["--drafter", "none"], ["drafter 'none' is plain decoding", "leave it out"]),
        (["--drafter", "sufix"], ["'sufix'", "did you mean 'suffix'?"]),
        (["--max-new-tokens", "1"], ["1 new tokens: give 2 or more"]),
        (["--limit", "0"], ["a limit of 0 prompts"]),
        (["--prompts", "pg-19"], ["did you mean 'pg19'?"]),
        (["--temperature", "-1"], ["temperature -1.0"]),
        (["--recipe", "/no/such/folder/x.toml"], ["the folder /no/such/folder is not there"]),
        (["--recipe", "."], [". is a folder"]),
        (["--json", "."], [". is a folder"]),
        (["--dtype", "bf8"], ["unknown dtype 'bf8'"]),
    ],
)
def test_bad_input(tune: Run, words: list[str], said: list[str], out: Path) -> None:
    check(tune(*words), *said)
    assert not out.exists()


def test_bad_shapes_and_one_file_twice(run: Run, out: Path) -> None:
    check(run("tune", "--recipe", out, "--tree", "fixt"), "'fixt'", "did you mean 'fixed'?")
    check(run("tune", "--recipe", out, "--json", out), "are one file", "give two")


def test_no_data(run: Run, out: Path, tmp_path: Path) -> None:
    check(run("tune", "--recipe", out, "--data-dir", tmp_path), "pg19_test_books is not there")


# the recipe in other commands


@pytest.fixture
def recipe(folder: Path, similar: Path, out: Path) -> Path:
    Recipe(str(folder), str(similar), draft_length=3, dtype="float32", device="cpu").write(out)
    return out


def test_generate_takes_a_recipe(run: Run, recipe: Path, folder: Path, similar: Path) -> None:
    words = ("generate", PROMPT, "--recipe", recipe, "--max-new-tokens", 12, "--json")
    record = run(*words).json
    request = record["request"]
    assert request["recipe"] == str(recipe)
    assert (request["target"], request["drafter"]) == (str(folder), str(similar))
    assert (request["draft_length"], request["dtype"]) == ("3", "float32")
    assert record["stats"]["drafted"]
    # options win, also where they are given with their defaults
    record = run(*words, "--drafter", "none", "--dtype", "bfloat16").json
    assert (record["request"]["drafter"], record["request"]["dtype"]) == ("none", "bfloat16")
    assert record["stats"]["drafted"] == 0
    assert run(*words, "--draft-length", 1).json["request"]["draft_length"] == "1"
    check(run(*words, "--tree", "fixed(depth=2, branch=2)", "--bitwise"), "takes chains only")


def test_bench_takes_a_recipe(
    run: Run, recipe: Path, prompts: Path, folder: Path, similar: Path, tmp_path: Path
) -> None:
    record_file = tmp_path / "bench.json"
    words = ["bench", "--recipe", recipe, "--prompts", prompts, "--max-new-tokens", 8]
    words += ["--repeats", 1, "--methods", "plain,draft@3"]
    assert run(*words, "--json", record_file).code == 0
    record = json.loads(record_file.read_text())
    config = record["config"]
    assert (config["target"], config["drafter"]) == (str(folder), str(similar))
    assert (config["dtype"], config["recipe"]) == ("float32", str(recipe))
    assert f"--recipe {recipe}" in config["command"]
    by_name = {one["method"]: one for one in record["results"]}
    assert list(by_name) == ["hf", "plain", "draft@3", "recipe"]
    drafted = [[one["drafted"] for one in by_name[n]["runs"]] for n in ("draft@3", "recipe")]
    assert drafted[0] == drafted[1]
    # the negative control: another draft model is another recipe
    assert run(*words, "--drafter", folder, "--json", record_file).code == 0
    other = {one["method"]: one for one in json.loads(record_file.read_text())["results"]}
    assert other["recipe"]["acceptance_rate"] == 1.0 != by_name["recipe"]["acceptance_rate"]


def test_recipes_that_cannot_be_used(run: Run, tmp_path: Path) -> None:
    for command in (["generate", PROMPT], ["bench"]):
        missing = tmp_path / "none.toml"
        check(run(*command, "--recipe", missing), f"recipe {missing}: no such file", "outpace tune")
        broken = tmp_path / "broken.toml"
        broken.write_text("drafter = 3\n")
        check(run(*command, "--recipe", broken), "drafter is 3: give text")
    check(run("bench", "--methods", "recipe"), "method 'recipe': give --recipe FILE")
    check(run("bench", "--methods", "recipe@3"), "recipe takes no draft length")
