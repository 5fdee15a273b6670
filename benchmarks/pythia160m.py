"""160 M parameters on the CPU, eager and compiled: python benchmarks/pythia160m.py [--quick]

Writes docs/results/pythia160m.{md,json}: the shape of Pythia-160M with a drafter of six layers of
128, random weights with a synthetic acceptance (outpace.zoo.synthetic), bfloat16. Transformers'
generate and its assisted generation against our loop, eager, compiled where that can be had, and
with the target in int8; the same prompts in turn, in one process. --quick takes a tiny pair.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from common import RESULTS, measure, ratio, result, shown
from outpace.bench import Models, Record, Writing
from outpace.bench.methods import Method
from outpace.bench.report import is_wrong, markdown
from outpace.errors import OutpaceError
from outpace.models.precision import quantized
from synthetic import GATE, in_runtime, methods, pair, prompts

ACCEPTANCE = 0.75
LENGTHS = range(1, 6)
EAGER = ("hf", "hf-assisted@5", "plain", "draft@5", GATE)
COMPILED = ("plain", *(f"draft@{length}" for length in LENGTHS), GATE)
INT8 = ("plain", GATE)
WANTED = (
    ("draft@5", "hf-assisted@5", 1.1),
    ("plain", "hf", None),
    ("draft@5", "plain", None),
    (GATE, "plain", None),
    ("compiled plain", "hf", 3.0),
    (f"compiled {GATE}", "compiled plain", 1.25),
    *((f"compiled draft@{length}", "compiled plain", None) for length in LENGTHS),
    ("int8 plain", "plain", None),
    (f"int8 {GATE}", GATE, None),
    ("compiled int8 plain", "compiled plain", None),
    (f"compiled int8 {GATE}", f"compiled {GATE}", None),
)
"""A method, what it is compared with, and how many times as fast it is wanted to be."""


def everything(both: Models) -> tuple[list[Method], list[str]]:
    """Return the methods that can be had here, and why others cannot."""
    made, missing = methods(both, EAGER), []
    int8 = quantized(both.target, "int8")
    made += methods(Models(int8, both.drafter), INT8, "int8")
    drafter = both.drafter
    try:
        assert drafter is not None
        drafter = in_runtime(drafter, "compile")
        for target, names, kind in (
            (both.target, COMPILED, "compiled"),
            (int8, INT8, "compiled int8"),
        ):
            some = Models(in_runtime(target, "compile"), drafter)
            made += methods(some, names, kind)
    except OutpaceError as error:
        missing.append(str(error))
    return made, missing


def page(record: Record) -> str:
    """Return the record as a page, what it was made for first."""
    config = record["config"]
    named = {one["method"] for one in record["results"]}
    lines = [
        f"{config['target']} with {config['drafter']}: random weights at the sizes of the "
        f"architectures, synthetic acceptance {config['acceptance']}. Greedy text follows a "
        "permutation of the vocabulary, from which the drafter differs at a fraction of the "
        "tokens; a forward takes what it takes at these sizes. What is measured is the price of "
        "each way to run it, not what a trained drafter would have accepted.",
        "",
        "| method | against | times as fast (95 % interval) | wanted |",
        "| --- | --- | --- | --- |",
    ]
    for one, other, wanted in WANTED:
        if {one, other} <= named:
            times = ratio(result(record, other), result(record, one))
            least = "" if wanted is None else f"≥ {wanted}"
            lines.append(f"| {one} | {other} | {shown(times)} | {least} |")
    lines += ["", *(f"- not measured, {why}" for why in config["missing"])]
    lines += [""] if config["missing"] else []
    return "\n".join(lines) + "\n" + markdown(record)


def run(options: argparse.Namespace) -> Record:
    """Measure."""
    shape = "tiny" if options.quick else "pythia-160m"
    both = pair(shape, ACCEPTANCE, "bfloat16", "cpu")
    made, missing = everything(both)
    texts = prompts(both.target.vocabulary, options.prompts, options.prompt_tokens)
    record = measure(both, made, texts, Writing(options.tokens), warmup=options.warmup)
    config: dict[str, Any] = {
        "target": both.target.name,
        "drafter": both.drafter.name if both.drafter else None,
        "acceptance": ACCEPTANCE,
        "prompts": ["random ids"],
        "repeats": 1,
        "draft_length": "as named",
        "missing": missing,
        "command": " ".join(["python benchmarks/pythia160m.py", *options.given]),
    }
    record["config"] |= config
    return record


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny pair")
    parser.add_argument("--prompts", type=int, default=8, help="how many")
    parser.add_argument("--prompt-tokens", type=int, default=64, help="how long they are")
    parser.add_argument("--tokens", type=int, default=128, help="new ones of each text")
    parser.add_argument("--warmup", type=int, default=1, help="texts before anything counts")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of both files")
    options = parser.parse_args(arguments)
    options.given = arguments
    record = run(options)
    options.into.mkdir(parents=True, exist_ok=True)
    (options.into / "pythia160m.json").write_text(json.dumps(record, indent=1) + "\n")
    (options.into / "pythia160m.md").write_text(page(record))
    print(page(record))
    return int(is_wrong(record))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
