"""int8 and int4 on the CPU, eager and compiled: python benchmarks/precision160m.py [--quick]

Writes docs/results/precision160m.{md,json}: plain decoding at the shape of Pythia-160M (random
weights, outpace.zoo.synthetic) in bfloat16, int8 and int4, with the output head as it is and
quantised too, each eager and compiled; and what one forward takes at widths from 1 to 16. All in
turn, in one process. --quick takes a tiny model.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from common import RESULTS, measure, ratio, result, shown
from outpace.bench import Models, Record, Writing
from outpace.bench.methods import Method
from outpace.bench.report import is_wrong, markdown
from outpace.errors import OutpaceError
from outpace.models import LanguageModel
from outpace.models.precision import quantized
from synthetic import in_runtime, methods, pair, prompts

WIDTHS = (1, 2, 4, 8, 16)
SLOTS = 256
RUNTIMES = ("eager", "compiled")
KINDS = {
    "bf16": None,
    "int8": ("int8", False),
    "int8 + head": ("int8", True),
    "int4": ("int4", False),
    "int4 + head": ("int4", True),
}
"""Models by name: the precision, and whether the output head has it too."""


def everything(target: LanguageModel) -> tuple[dict[str, LanguageModel], list[str]]:
    """Return the models that can be had here, by runtime and kind, and why others cannot."""
    made, missing = {}, []
    for kind, given in KINDS.items():
        model = target if given is None else quantized(target, given[0], head=given[1])
        made[f"eager {kind}"] = model
        try:
            made[f"compiled {kind}"] = in_runtime(model, "compile")
        except OutpaceError as error:
            missing.append(str(error))
    return made, missing


def forwards(models: Mapping[str, LanguageModel], repeats: int) -> dict[str, list[float]]:
    """Return the median ms of a forward of each model at each width, all models in turn."""
    times: dict[str, list[list[float]]] = {name: [[] for _ in WIDTHS] for name in models}
    for at, width in enumerate(WIDTHS):
        for number in range(repeats + 1):
            for name, model in models.items():
                took = _forward(model, width)
                if number:  # the first one packs weights
                    times[name][at].append(took * 1e3)
    return {name: [statistics.median(each) for each in rows] for name, rows in times.items()}


def _forward(model: LanguageModel, width: int) -> float:
    """Return the seconds of a forward over a chain of tokens, half of the slots held."""
    before = SLOTS // 2
    held = torch.full((SLOTS,), -1)
    held[:before] = torch.arange(before)
    places = torch.arange(before, before + width)
    seen = torch.ones(width, width, dtype=torch.bool).tril()
    cache = model.new_cache(SLOTS)
    with model.attached():
        # the cache takes its memory at the first forward
        model.forward(held[:1] + 1, held[:1].repeat(2, 1), seen[:1, :1], held, cache, SLOTS)
        began = time.perf_counter()
        model.forward(
            torch.arange(1, width + 1), torch.stack([places, places]), seen, held, cache, SLOTS
        )
        return time.perf_counter() - began


def page(record: Record) -> str:
    """Return the record as a page, what it was made for first."""
    config, steps = record["config"], record["forwards"]
    named = [one["method"] for one in record["results"]]
    lines = [
        f"{config['target']}: random weights at the sizes of the architecture, whose greedy text "
        "follows a permutation of the vocabulary. What is measured is what each precision costs, "
        "not what it does to a text. Plain decoding, whole texts with their prefill, times as fast "
        "as bfloat16 in the same runtime and as transformers' generate (95 % intervals):",
        "",
        "| weights | eager | compiled | compiled, over hf |",
        "| --- | --- | --- | --- |",
    ]
    for kind in KINDS:
        cells = []
        for runtime, other in (
            *((runtime, f"{runtime} bf16 plain") for runtime in RUNTIMES),
            ("compiled", "hf"),
        ):
            one = f"{runtime} {kind} plain"
            there = {one, other} <= set(named)
            times = ratio(result(record, other), result(record, one)) if there else None
            cells.append("–" if times is None else shown(times))
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    lines += [
        "",
        f"One forward, ms (and times as fast as bfloat16 at this width and in this runtime); "
        f"{SLOTS} slots, medians of {config['repeats_of_forwards']}:",
        "",
        f"| runtime and weights | {' | '.join(map(str, WIDTHS))} |",
        f"| --- |{' --- |' * len(WIDTHS)}",
    ]
    for name, row in sorted(steps.items(), key=lambda one: not one[0].startswith("eager")):
        base = steps[f"{name.partition(' ')[0]} bf16"]
        cells = [f"{ms:.1f} ({wide / ms:.2f})" for ms, wide in zip(row, base, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *_reading(steps), ""]
    lines += [*(f"- not measured, {why}" for why in config["missing"])]
    lines += [""] if config["missing"] else []
    return "\n".join(lines) + "\n" + markdown(record)


def _reading(steps: Mapping[str, list[float]]) -> list[str]:
    """Return who is fastest at one row and at eight, and what bytes and arithmetic have to do."""
    runtime = RUNTIMES["compiled bf16" in steps]
    rows = {kind: steps[f"{runtime} {kind}"] for kind in KINDS if f"{runtime} {kind}" in steps}
    one, eight = WIDTHS.index(1), WIDTHS.index(8)
    lines = []
    for at in (one, eight):
        best = min(rows, key=lambda kind: rows[kind][at])
        times = rows["bf16"][at] / rows[best][at]
        lines.append(
            f"At width {WIDTHS[at]} {runtime} {best} is fastest, {times:.2f} times as fast as "
            f"{runtime} bf16."
        )
    growth = ", ".join(f"{row[eight] / row[one]:.1f} in {kind}" for kind, row in rows.items())
    lines.append(
        f"Eight rows take as many times what one row takes: {growth}. Where reading the weights "
        "decides that is near 1, where arithmetic does, near 8: so fewer bytes help at one row, as "
        "long as they are turned into numbers quickly enough, and cheaper arithmetic at eight."
    )
    return lines


def run(options: argparse.Namespace) -> Record:
    """Measure."""
    shape = "tiny" if options.quick else "pythia-160m"
    both = pair(shape, 0.75, "bfloat16", "cpu")
    models, missing = everything(both.target)
    steps = forwards(models, options.forwards)
    made: list[Method] = methods(both, ("hf",))
    for name, model in models.items():
        made += methods(Models(model, None), ("plain",), name)
    texts = prompts(both.target.vocabulary, options.prompts, options.prompt_tokens)
    record = measure(both, made, texts, Writing(options.tokens), warmup=options.warmup)
    config: dict[str, Any] = {
        "target": both.target.name,
        "drafter": None,
        "prompts": ["random ids"],
        "repeats": 1,
        "repeats_of_forwards": options.forwards,
        "draft_length": "none",
        "missing": missing,
        "command": " ".join(["python benchmarks/precision160m.py", *options.given]),
    }
    record["config"] |= config
    record["forwards"] = steps
    return record


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny model")
    parser.add_argument("--prompts", type=int, default=8, help="how many")
    parser.add_argument("--prompt-tokens", type=int, default=64, help="how long they are")
    parser.add_argument("--tokens", type=int, default=64, help="new ones of each text")
    parser.add_argument("--warmup", type=int, default=1, help="texts before anything counts")
    parser.add_argument("--forwards", type=int, default=15, help="of each width")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of both files")
    options = parser.parse_args(arguments)
    options.given = arguments
    record = run(options)
    options.into.mkdir(parents=True, exist_ok=True)
    (options.into / "precision160m.json").write_text(json.dumps(record, indent=1) + "\n")
    (options.into / "precision160m.md").write_text(page(record))
    print(page(record))
    return int(is_wrong(record))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
