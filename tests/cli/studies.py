"""What the tests of studies on the command line share."""

import json
from pathlib import Path
from typing import Any

FILE = """
title = "Tiny"
question = "Does it go on?"
[base]
target = "{target}"
dtype = "float32"
runtime = "eager"
device = "cpu"
prompts = ["{prompts}"]
max_new_tokens = {tokens}
warmup = 0
[quick]
limit = 1
[[parts]]
name = "lengths"
methods = {methods}
axes = {{ seed = [0, 1] }}
[[parts.tables]]
name = "speed"
columns = ["tokens_per_second", "speedup", "acceptance", "ppl", "same"]
[[parts.pictures]]
name = "speed"
x = "seed"
"""
METHODS = ("plain", "ngram@3", "prompt-lookup")


def write_study(
    folder: Path, target: Path, methods: tuple[str, ...] = METHODS, tokens: int = 12
) -> Path:
    """Write a study file with its prompts; return it."""
    prompts = folder / "mine.jsonl"
    prompts.write_text("".join(f'"the cat and the dog and the {n}"\n' for n in range(4)))
    file = folder / "tiny.toml"
    names = json.dumps(list(methods))
    file.write_text(FILE.format(target=target, prompts=prompts, methods=names, tokens=tokens))
    return file


def lines(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Return the whole lines of the records in a folder, all or those of a kind."""
    raw = (folder / "records.jsonl").read_bytes()
    found = [json.loads(line) for line in raw[: raw.rfind(b"\n") + 1].splitlines()]
    return [line for line in found if kind in {None, line["kind"]}]


def cells(folder: Path) -> list[tuple[str, str, int, int]]:
    """Return (setting, method, prompt, repeat) of every text, in order."""
    return [
        (line["setting"], line["method"], line["prompt"], line["repeat"])
        for line in lines(folder, "cell")
    ]
