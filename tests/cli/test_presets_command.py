"""``--preset`` of generate, chat and bench, and ``outpace memory``, on tiny models."""

import json
from pathlib import Path

import pytest
from commandline import PROMPT, Run
from test_bad_input import check

from outpace.models import load
from outpace.recipe import Recipe

FITTED = "streaming(sinks=4, recent=395)"
"""The policy of the preset for long texts, in a context of 512."""


def test_generate(run: Run, folder: Path, similar: Path) -> None:
    words = ("generate", PROMPT, "--target", folder, "--drafter", similar, "--preset", "long")
    words += ("--max-new-tokens", 12, "--device", "cpu", "--json")
    ran = run(*words)
    assert ran.code == 0, ran.err
    request = ran.json["request"]
    assert request["preset"] == "long"
    assert (request["dtype"], request["draft_length"]) == ("bfloat16", "4")
    assert request["cache_policy"] == request["drafter_cache_policy"] == FITTED
    assert not ran.json["stats"]["exact"]
    told = ran.err.splitlines()
    assert len(told) == 3
    assert told[0] == "outpace: preset long: bfloat16, since a CPU does not compute in float16"
    assert f"{FITTED} in place of streaming(sinks=4, recent=1020)" in told[1]


def test_options_win(run: Run, folder: Path, similar: Path) -> None:
    words = ("generate", PROMPT, "--target", folder, "--drafter", similar, "--preset", "long")
    words += ("--max-new-tokens", 12, "--json", "--dtype", "float32", "--draft-length", 2)
    ran = run(*words, "--cache-policy", "full", "--drafter-cache-policy", "full")
    request = ran.json["request"]
    assert (request["dtype"], request["draft_length"]) == ("float32", "2")
    assert (request["cache_policy"], request["drafter_cache_policy"]) == ("full", "full")
    assert ran.json["stats"]["exact"]
    assert ran.err == ""
    plain = run("generate", PROMPT, "--target", folder, "--dtype", "float32", "--json",
                "--drafter", "none", "--max-new-tokens", 12)  # fmt: skip
    assert ran.json["tokens"] == plain.json["tokens"]


def test_chat(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from commandline import Piped

    monkeypatch.setattr("sys.stdin", Piped("hello\n"))
    words = ("chat", "--target", folder, "--drafter", "none", "--preset", "balanced")
    ran = run(*words, "--max-new-tokens", 4, "--no-history", "--device", "cpu")
    assert ran.code == 0, ran.err
    assert f"{FITTED} in place of streaming(sinks=4, recent=508)" in ran.err


def test_bench(run: Run, folder: Path, similar: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "mine.jsonl"
    prompts.write_text('"the cat and the dog and the cat"\n')
    record_file = tmp_path / "bench.json"
    words = ["bench", "--preset", "short", "--target", folder, "--drafter", similar]
    words += ["--prompts", prompts, "--max-new-tokens", 8, "--repeats", 1, "--dtype", "float32"]
    ran = run(*words, "--methods", "draft@5", "--device", "cpu", "--json", record_file)
    assert ran.code == 0, ran.err
    record = json.loads(record_file.read_text())
    assert (record["config"]["preset"], record["config"]["recipe"]) == ("short", None)
    assert "--preset short" in record["config"]["command"]
    by_name = {one["method"]: one for one in record["results"]}
    assert list(by_name) == ["hf", "draft@5", "preset"]
    drafted = [[one["drafted"] for one in by_name[n]["runs"]] for n in ("draft@5", "preset")]
    assert drafted[0] == drafted[1]
    again = run("bench", "--replay", record_file)
    assert again.code == 0, again.err
    assert " preset " in again.out


@pytest.mark.parametrize("command", [["generate", PROMPT], ["chat"], ["bench"], ["memory"]])
def test_refusals(run: Run, command: list[str], folder: Path, tmp_path: Path) -> None:
    check(run(*command, "--preset", "lng"), "unknown preset 'lng'", "did you mean 'long'?")
    recipe = tmp_path / "r.toml"
    Recipe(str(folder)).write(recipe)
    both = run(*command, "--preset", "long", "--recipe", recipe)
    check(both, f"--preset long with --recipe {recipe}", "give one of them")
    check(run(*command, "--preset", "long", "--target", "zoo:tiny"), "no embedded model")


def test_a_model_with_too_few_positions(run: Run, folder: Path, tmp_path: Path) -> None:
    import shutil

    small = tmp_path / "small"
    shutil.copytree(folder, small)
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 80}))
    words = ("generate", PROMPT, "--target", small, "--preset", "long")
    check(run(*words), f"{small} has 80 positions", "give --cache-policy full")


def test_bench_without_a_preset(run: Run) -> None:
    check(run("bench", "--methods", "preset"), "method 'preset': give --preset NAME")
    check(run("bench", "--methods", "preset@3"), "preset takes no draft length")
    check(run("bench", "--preset", "short", "--replay", "x"), "--preset with --replay")
    check(run("generate", PROMPT, "--preset", "long", "--beams", 2), "--preset")


def test_memory(run: Run, folder: Path, similar: Path) -> None:
    words = ("memory", "--target", folder, "--drafter", similar, "--device", "cpu")
    record = run(*words, "--json", "--memory-limit", "130kB").json
    assert record["prompt_tokens"] == record["new_tokens"] == 128
    assert list(record["bytes"]) == ["short", "long", "balanced", "least-memory"]
    short = record["bytes"]["short"]
    size = load(folder, dtype="bfloat16", device="cpu").weight_bytes
    assert short["weights"] == short["drafter_weights"] == size
    parts = ("weights", "drafter_weights", "kv", "drafter_kv", "activations")
    assert short["total"] == sum(short[part] for part in parts)
    assert [one["fits"] for one in record["bytes"].values()] == [
        max(one["total"], one["loading"]) <= 130_000 for one in record["bytes"].values()
    ]
    ran = run(*words, "--preset", "least-memory", "--memory-limit", "1GB")
    assert ran.code == 0
    assert "least-memory" in ran.out
    assert "int8" in ran.out
    assert "yes" in ran.out
    assert "balanced" not in ran.out


def test_memory_of_a_recipe(run: Run, folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    Recipe(str(folder), "none", dtype="float32", device="cpu").write(recipe)
    found = run("memory", "--recipe", recipe, "--json").json["bytes"]["recipe"]
    assert (found["drafter"], found["drafter_weights"]) == ("none", 0)
    half = run("memory", "--recipe", recipe, "--dtype", "bfloat16", "--json").json["bytes"]
    assert 2 * half["recipe"]["weights"] == found["weights"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--memory-limit", "much"], ["size 'much'", "4GB or 300MB (decimal)"]),
        (["--prompt-tokens", "0"], ["--prompt-tokens 0: give 1 or more"]),
        (["--max-new-tokens", "-1"], ["--max-new-tokens -1: give 1 or more"]),
        (["--dtype", "bf8"], ["unknown dtype 'bf8'"]),
        (["--drafter", "sufix"], ["did you mean 'suffix'?"]),
        (["--cache-policy", "streeming"], ["did you mean 'streaming'?"]),
        (["--device", "nowhere"], ["device 'nowhere'"]),
    ],
)
def test_bad_values(run: Run, folder: Path, words: list[str], said: list[str]) -> None:
    check(run("memory", "--preset", "short", "--target", folder, *words), *said)
