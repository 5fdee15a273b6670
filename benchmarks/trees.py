"""Trees against chains, and the parts of a shape one by one: python benchmarks/trees.py [--quick]

Writes docs/results/trees.{md,json}: the embedded pair on texts that do not repeat themselves,
greedy and at temperature 0.8. Three questions: how many tokens a forward of the target writes with
a tree of 32 nodes and with the best chain, which of them is faster here, and what each part of a
shape adds (fixed, then breadth, depth and history that adapt).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from outpace import Decoder
from outpace.bench import (
    Bench,
    BenchPrompt,
    Models,
    Record,
    Writing,
    environment,
    fit_prompts,
    load_prompts,
    make_method,
    make_record,
)
from outpace.bench.metrics import LOOPING, repeated_8gram_share, speedup
from outpace.bench.report import is_wrong
from outpace.cli.bench import progress
from outpace.models import load

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
SETS = ("pg19", "wikitext", "humaneval", "spec-bench")
NEW_TOKENS = 64
"""More, and hardly a greedy text of the embedded target is left that does not repeat itself."""
CHAINS = (2, 3, 5, 8, 12, 31)
SHAPES = (
    "sequoia(nodes=31, depth=8)",
    "best_first(nodes=7, depth=3, width=3)",
    "best_first(nodes=15, depth=4, width=4)",
    "best_first(nodes=31, depth=6, width=8)",
    "fixed(depth=4, branch=2, nodes=31)",
    "pruned(depth=8, branch=3, tau=0.03, nodes=31)",
)
FULL = "best_first(nodes=31, depth=6, width=8)"
"""32 nodes with the root: what one forward of that width takes."""
STEPS = {
    "fixed": "fixed(depth=5, branch=2)",
    "+ breadth": "fixed(depth=5, branch=2) + adaptive_breadth",
    "+ depth": "fixed(depth=5, branch=2) + adaptive_breadth + dynamic_depth",
    "+ history": "fixed(depth=5, branch=2) + adaptive_breadth + dynamic_depth + history",
}
TEMPERATURES = (0.0, 0.8)


def straight(models: Models, each: int, candidates: int) -> list[BenchPrompt]:
    """Return prompts of every set whose greedy text does not repeat itself, the first ones found.

    The text is the target's, the same for every method: no method is favoured by the choice.
    """
    decoder = Decoder.from_pretrained(models.target, drafter="prompt-lookup")
    found = []
    for name in SETS:
        prompts, _ = fit_prompts(load_prompts([name], limit=candidates), models, NEW_TOKENS)
        kept: list[BenchPrompt] = []
        for prompt in prompts:
            text = decoder.generate(prompt.text, max_new_tokens=NEW_TOKENS, ignore_eos=True)
            if repeated_8gram_share(text.tokens) < LOOPING and len(kept) < each:
                kept.append(prompt)
        found += kept
    return found


def measure(
    models: Models, prompts: Sequence[BenchPrompt], names: Sequence[str], temperature: float
) -> Record:
    """Run methods in turn on the same prompts."""
    methods = [make_method(name, models, 5) for name in names]
    writing = Writing(NEW_TOKENS, temperature)
    bench = Bench(models, methods, prompts, writing, repeats=1, warmup=3)
    with progress(bench.steps) as notify:
        done = bench.run(notify)
    config = {"dtype": "bfloat16", "temperature": temperature, "methods": list(names)}
    return make_record(bench, done, config, environment())


def names() -> list[str]:
    """Return all methods, the baseline first; each once."""
    chains = [f"draft@{length}" for length in CHAINS]
    trees = [f"tree:{shape}" for shape in (*SHAPES, *STEPS.values())]
    return ["hf", "plain", *chains, *trees]


def page(records: dict[float, Record], prompts: int) -> str:
    """Return the records as tables."""
    lines = []
    for temperature, record in records.items():
        how = f"temperature {temperature}" if temperature else "greedy"
        lines += [f"## Trees and chains, {how}", "", *_table(record, names()[2:-4]), ""]
        lines += [_gain(record), ""]
    for temperature, record in records.items():
        how = f"temperature {temperature}" if temperature else "greedy"
        lines += [f"## The parts of a shape, {how}", "", *_ablation(record), ""]
    first = next(iter(records.values()))
    where, texts = first["environment"], first["prompts"]["texts"]
    sets = ", ".join(
        f"{sum(text['workload'] == name for text in texts)} of {name}" for name in SETS
    )
    lines += [
        f"zoo:target with zoo:large, bfloat16, {prompts} prompts ({sets}) whose greedy text "
        f"repeats less than {LOOPING:.0%} of its 8-grams, {NEW_TOKENS} new tokens each, all "
        "methods in turn in one process for each temperature. Draft share: of the time of a "
        "round. Intervals are 95 %, bootstrapped over prompts. "
        f"{where['cpu']['name']}, {where['threads']} threads, torch {where['versions']['torch']}, "
        f"transformers {where['versions']['transformers']}. Made by `python benchmarks/trees.py`.",
    ]
    return "\n".join(lines) + "\n"


def _table(record: Record, shown: Sequence[str]) -> list[str]:
    lines = [
        "| method | tokens a forward | tokens/s × hf | draft tokens a round | draft share |",
        "|" + " --- |" * 5,
    ]
    for name in ("plain", *shown):
        one = _result(record, name)
        ratio = one["speedup_vs_hf"]
        share = one["draft_share"]
        lines.append(
            f"| `{name}` | {one['mean_acceptance_length']:.2f} | {ratio['value']:.2f} "
            f"({ratio['low']:.2f}–{ratio['high']:.2f}) | {_per_round(one):.1f} | "
            f"{'–' if share is None else f'{share:.0%}'} |"
        )
    return lines


def _gain(record: Record) -> str:
    """Return how much more a tree of 32 nodes writes than the best chain, a sentence."""
    chains = [_result(record, f"draft@{length}") for length in CHAINS]
    trees = [_result(record, f"tree:{shape}") for shape in SHAPES]
    longest = max(chains, key=lambda one: one["mean_acceptance_length"])
    quickest = max(chains, key=lambda one: one["speedup_vs_hf"]["value"])
    best = max(trees, key=lambda one: one["speedup_vs_hf"]["value"])
    full = _result(record, f"tree:{FULL}")
    more = _ratio(longest, full, "forwards")
    faster = _ratio(quickest, best, "seconds")
    return (
        f"The tree of 32 nodes (`{full['method']}`) writes {more} × as many tokens a forward as "
        f"the chain that writes most (`{longest['method']}`). The fastest tree "
        f"(`{best['method']}`) runs at {faster} × the speed of the fastest chain "
        f"(`{quickest['method']}`)."
    )


def _ablation(record: Record) -> list[str]:
    lines = [
        "| shape | tokens a forward | × fixed | tokens/s × fixed | × the step before | "
        "draft tokens a round |",
        "|" + " --- |" * 6,
    ]
    first = before = _result(record, f"tree:{STEPS['fixed']}")
    for label, shape in STEPS.items():
        one = _result(record, f"tree:{shape}")
        cells = [
            _ratio(first, one, "forwards"),
            _ratio(first, one, "seconds"),
            _ratio(before, one, "seconds"),
        ]
        if one is first:
            cells = ["1", "1", "–"]
        lines.append(
            f"| {label} | {one['mean_acceptance_length']:.2f} | {' | '.join(cells)} | "
            f"{_per_round(one):.1f} |"
        )
        before = one
    return lines


def _result(record: Record, name: str) -> dict[str, Any]:
    return next(one for one in record["results"] if one["method"] == name)


def _ratio(one: dict[str, Any], other: dict[str, Any], what: str) -> str:
    """Return how many times less of it (seconds, forwards) the other took, with its interval."""
    each = [[[float(run[what])] for run in result["runs"]] for result in (one, other)]
    ratio = speedup(*each)
    return f"{ratio.value:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"


def _per_round(one: dict[str, Any]) -> float:
    runs = one["runs"]
    return float(sum(run["drafted"] for run in runs) / sum(run["forwards"] for run in runs))


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two prompts of each set")
    quick = parser.parse_args().quick
    models = Models(load("zoo:target", device="cpu"), load("zoo:large", device="cpu"))
    prompts = straight(models, each=2 if quick else 10, candidates=10 if quick else 60)
    records = {
        temperature: measure(models, prompts, names(), temperature) for temperature in TEMPERATURES
    }
    text = page(records, len(prompts))
    print(text)
    if not quick:
        (RESULTS / "trees.md").write_text(text)
        kept = {str(temperature): record for temperature, record in records.items()}
        (RESULTS / "trees.json").write_text(json.dumps(kept, indent=1) + "\n")
    return int(any(is_wrong(record) for record in records.values()))


if __name__ == "__main__":
    sys.exit(main())
