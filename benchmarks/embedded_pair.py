"""The embedded pair on books and code: python benchmarks/embedded_pair.py [--sizes] [ARGUMENTS]

Writes docs/results/embedded-pair.{md,json}: transformers' generate and its assisted generation
against plain decoding and all drafters, the same 40 prompts in turn, in one process, and our draft
model against transformers' at the same draft length. With --sizes it writes
docs/results/drafter-sizes.{md,json} instead: the three embedded drafters at several draft lengths.
Further arguments go to ``outpace bench`` (``--limit 2`` for a quick look).
"""

import json
import sys

from common import RESULTS, ratio, result, shown
from outpace.cli import main

LENGTHS = (2, 3, 4, 5, 7)
PAIR = [
    "hf",
    *(f"hf-assisted@{length}" for length in LENGTHS),
    "hf-assisted-tuned",
    "hf-prompt-lookup",
    "plain",
    *(f"draft@{length}" for length in LENGTHS),
    "prompt-lookup",
    "ngram",
]
SIZES = [
    "hf",
    *(f"zoo:{size}@{length}" for size in ("small", "medium", "large") for length in (2, 3, 5, 7)),
]


def run(arguments: list[str]) -> int:
    """Measure and write both files."""
    name, methods = "embedded-pair", PAIR
    if "--sizes" in arguments:
        arguments = [word for word in arguments if word != "--sizes"]
        name, methods = "drafter-sizes", SIZES
    words = ["bench", "--methods", ",".join(methods), "--prompts", "pg19,humaneval"]
    words += ["--limit", "20", "--repeats", "1", "--max-new-tokens", "128"]
    record, page = RESULTS / f"{name}.json", RESULTS / f"{name}.md"
    code = main([*words, "--json", str(record), "--markdown", str(page), *arguments])
    if code == 0 and methods is PAIR:
        with page.open("a") as file:
            file.write(against_assisted(json.loads(record.read_text())))
    return code


def against_assisted(record: dict) -> str:
    """Return a table of our draft model against transformers', length by length."""
    lines = ["", "| K | draft × hf-assisted (95 % interval) |", "| --- | --- |"]
    for length in LENGTHS:
        pair = (result(record, f"{name}@{length}") for name in ("hf-assisted", "draft"))
        lines.append(f"| {length} | {shown(ratio(*pair))} |")
    lines += ["", "The same draft model and length in both, the same prompts, the same run."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
