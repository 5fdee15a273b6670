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
from typing import Any

from common import RESULTS, SETS, TEMPERATURES, law, machine, measure, percent, ratio, result, shown
from outpace import Decoder
from outpace.bench import (
    BenchPrompt,
    Models,
    Record,
    Writing,
    fit_prompts,
    load_prompts,
    make_method,
)
from outpace.bench.metrics import LOOPING, repeated_8gram_share
from outpace.bench.report import is_wrong
from outpace.models import load

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


def names() -> list[str]:
    """Return all methods, the baseline first; each once."""
    chains = [f"draft@{length}" for length in CHAINS]
    trees = [f"tree:{shape}" for shape in (*SHAPES, *STEPS.values())]
    return ["hf", "plain", *chains, *trees]


def page(records: dict[float, Record], prompts: int) -> str:
    """Return the records as tables."""
    lines = []
    for temperature, record in records.items():
        lines += [f"## Trees and chains, {law(temperature)}", ""]
        lines += [*_table(record, names()[2:-4]), "", _gain(record), ""]
    for temperature, record in records.items():
        lines += [f"## The parts of a shape, {law(temperature)}", "", *_ablation(record), ""]
    first = next(iter(records.values()))
    texts = first["prompts"]["texts"]
    sets = ", ".join(
        f"{sum(text['workload'] == name for text in texts)} of {name}" for name in SETS
    )
    lines += [
        f"zoo:target with zoo:large, bfloat16, {prompts} prompts ({sets}) whose greedy text "
        f"repeats less than {LOOPING:.0%} of its 8-grams, {NEW_TOKENS} new tokens each, all "
        "methods in turn in one process for each temperature. Draft share: of the time of a "
        "round. Intervals are 95 %, bootstrapped over prompts. "
        f"{machine(first)}. Made by `python benchmarks/trees.py`.",
    ]
    return "\n".join(lines) + "\n"


def _table(record: Record, chosen: Sequence[str]) -> list[str]:
    lines = [
        "| method | tokens a forward | tokens/s × hf | draft tokens a round | draft share |",
        "|" + " --- |" * 5,
    ]
    for name in ("plain", *chosen):
        one = result(record, name)
        lines.append(
            f"| `{name}` | {one['mean_acceptance_length']:.2f} | "
            f"{shown(ratio(result(record, 'hf'), one))} | {_per_round(one):.1f} | "
            f"{percent(one['draft_share'])} |"
        )
    return lines


def _gain(record: Record) -> str:
    """Return how much more a tree of 32 nodes writes than the best chain, a sentence."""
    chains = [result(record, f"draft@{length}") for length in CHAINS]
    trees = [result(record, f"tree:{shape}") for shape in SHAPES]
    longest = max(chains, key=lambda one: one["mean_acceptance_length"])
    quickest = max(chains, key=lambda one: one["speedup_vs_hf"]["value"])
    best = max(trees, key=lambda one: one["speedup_vs_hf"]["value"])
    full = result(record, f"tree:{FULL}")
    more = shown(ratio(longest, full, "forwards"))
    faster = shown(ratio(quickest, best))
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
    first = before = result(record, f"tree:{STEPS['fixed']}")
    for label, shape in STEPS.items():
        one = result(record, f"tree:{shape}")
        cells = [
            shown(ratio(first, one, "forwards")),
            shown(ratio(first, one)),
            shown(ratio(before, one)),
        ]
        if one is first:
            cells = ["1", "1", "–"]
        lines.append(
            f"| {label} | {one['mean_acceptance_length']:.2f} | {' | '.join(cells)} | "
            f"{_per_round(one):.1f} |"
        )
        before = one
    return lines


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
        temperature: measure(
            models,
            [make_method(name, models, 5) for name in names()],
            prompts,
            Writing(NEW_TOKENS, temperature),
        )
        for temperature in TEMPERATURES
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
