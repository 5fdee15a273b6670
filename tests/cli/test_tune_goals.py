"""``outpace tune --goal``, ``--memory-limit`` and ``--cache-policy``, on tiny models."""

import json
from pathlib import Path

import pytest
from commandline import Run
from test_bad_input import check

from outpace.recipe import Recipe

SMALL = "streaming(sinks=4, recent=40)"


pytestmark = pytest.mark.usefixtures("threads")


@pytest.fixture
def words(folder: Path, tmp_path: Path) -> list[object]:
    prompts = tmp_path / "mine.jsonl"
    prompts.write_text('"the cat and the dog and the cat"\n')
    fixed = ["tune", "--target", folder, "--drafter", "prompt-lookup", "--prompts", prompts]
    fixed += ["--dtype", "float32", "--max-new-tokens", 64, "--lengths", "2", "--no-trees"]
    return [*fixed, "--device", "cpu", "--recipe", tmp_path / "recipe.toml"]


def test_memory(run: Run, words: list[object], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    ran = run(*words, "--goal", "memory", "--cache-policy", SMALL, "--json", out)
    assert ran.code == 0, ran.err
    assert f"plain with {SMALL}" in ran.out
    assert "approximate" in ran.out
    recipe = Recipe.read(tmp_path / "recipe.toml")
    nbytes = recipe.measured["bytes"]
    assert nbytes[f"plain with {SMALL}"] == min(nbytes.values()) < nbytes["plain"]
    assert all(SMALL in name for name in recipe.measured["approximate"])
    assert recipe.measured["goal"] == "memory"
    assert json.loads(out.read_text())["bytes"] == nbytes
    # speed is noise here, so what is advised is not sure, but what it is called is
    assert f"Use {'plain' if recipe.drafter == 'none' else recipe.drafter}" in ran.out
    assert (recipe.cache_policy == SMALL) == ("its text is approximate" in ran.out)


def test_a_limit(run: Run, words: list[object], tmp_path: Path) -> None:
    ran = run(*words, "--memory-limit", "1kB")
    check(ran, "a memory limit of 1.00 kB: the least is plain decoding, ", "or more", "int8")
    assert not (tmp_path / "recipe.toml").exists()
    assert run(*words, "--memory-limit", "1GB").code == 0
    recipe = Recipe.read(tmp_path / "recipe.toml")
    assert recipe.measured["memory_limit_bytes"] == 1_000_000_000
    assert recipe.measured["approximate"] == []
    assert recipe.cache_policy is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--goal", "sped"], ["unknown goal 'sped'", "did you mean 'speed'?", "balanced"]),
        (["--memory-limit", "4XB"], ["size '4XB'", "4GiB", "(binary)"]),
        (["--cache-policy", "streeming"], ["did you mean 'streaming'?"]),
        (["--cache-policy", "streaming(sinks=-1)"], ["sinks -1: give 0 or more"]),
        (["--cache-policy", "streaming(recent=1020)"], ["it needs 1152 positions", "keep less"]),
    ],
)
def test_bad_values(run: Run, words: list[object], given: list[str], said: list[str]) -> None:
    check(run(*words, *given), *said)
