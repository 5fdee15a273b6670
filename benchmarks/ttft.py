"""The time to the first token: python benchmarks/ttft.py [--quick]

Writes docs/results/ttft.{md,json}: from the text of the prompt to the first new token, all prefills
in, at prompts of 32 to 1,500 tokens, of transformers' generate and assisted generation, plain
decoding, the draft model and the default. All take turns on the same prompts. Wanted: at most
1.15 × hf, and below hf-assisted.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from common import RESULTS, machine, measure, ratio, result, shown
from outpace.bench import (
    BenchPrompt,
    Models,
    Record,
    Writing,
    fit_prompts,
    load_prompts,
    make_method,
)
from outpace.bench.baselines import cannot_assist
from outpace.bench.metrics import Interval
from outpace.bench.report import is_wrong
from outpace.models import load

LENGTHS = (32, 128, 512, 1500)
METHODS = ("hf", "hf-assisted", "plain", "draft", "cascade")
OURS = ("plain", "draft", "cascade")
WANTED = 1.15
NEW_TOKENS = 8
"""More than one draft, so that every method is at work; only the first token counts."""


def prompts_of(length: int, count: int, models: Models) -> list[BenchPrompt]:
    """Return passages of books of so many tokens."""
    prompts = load_prompts(["pg19"], limit=count, prompt_tokens=length)
    return fit_prompts(prompts, models, NEW_TOKENS)[0]


def run(models: Models, prompts: dict[int, list[BenchPrompt]], *, warmup: int) -> dict[str, Record]:
    """Measure each length of prompt; return the records by length."""
    methods = [name for name in METHODS if name != "hf-assisted" or not cannot_assist(models)]
    return {
        str(length): measure(
            models,
            [make_method(name, models, 5) for name in methods],
            chosen,
            Writing(NEW_TOKENS),
            warmup=warmup,
            prompt_tokens=length,
        )
        for length, chosen in prompts.items()
    }


def page(records: dict[str, Record]) -> str:
    """Return the records as a table and its verdict."""
    names = next(iter(records.values()))["config"]["methods"]
    lines = ["# Time to the first token", ""]
    lines += [f"| prompt tokens | {' | '.join(f'`{name}`, ms' for name in names)} | "]
    lines[-1] += " | ".join(f"`{name}` / `hf`" for name in names[1:]) + " |"
    lines += ["|" + " --- |" * (2 * len(names))]
    for length, record in records.items():
        cells = [f"{int(length):,}"]
        cells += [f"{result(record, name)['ttft_ms']:.1f}" for name in names]
        cells += [shown(over(record, name, "hf")) for name in names[1:]]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *_verdicts(records), ""]
    first = next(iter(records.values()))
    lines += [
        f"zoo:target with its drafter, {first['config']['dtype']}, "
        f"{first['prompts']['count']} passages of PG-19 for each length, greedy, all methods in "
        "turn in one process. From the text of the prompt (tokenising in) to the first token "
        "delivered; transformers' assisted generation delivers its first draft with it. `cascade`, "
        "the default, has its draft model read the prompt when it is that one's turn, which may be "
        "after the first token or never. Intervals "
        f"are 95 %, bootstrapped over prompts. {machine(first)}. Made by "
        "`python benchmarks/ttft.py`.",
    ]
    return "\n".join(lines) + "\n"


def over(record: Record, name: str, other: str) -> Interval:
    """Return how many times the other's time to the first token a method takes."""
    return ratio(result(record, name), result(record, other), "ttft_ms")


def misses(records: dict[str, Record]) -> list[str]:
    """Return where what is wanted is not reached, a sentence each."""
    found = []
    for length, record in records.items():
        for name in OURS:
            more = over(record, name, "hf")
            if more.value > WANTED:
                found.append(f"`{name}` takes {shown(more)} × `hf` at {length} tokens.")
            if "hf-assisted" not in record["config"]["methods"]:
                continue
            beside = over(record, name, "hf-assisted")
            if beside.value >= 1:
                found.append(f"`{name}` takes {shown(beside)} × `hf-assisted` at {length} tokens.")
    return found


def _verdicts(records: dict[str, Record]) -> Sequence[str]:
    found = misses(records)
    if found:
        return [f"- {sentence}" for sentence in found]
    return [
        f"At every length all take at most {WANTED} × the time of `hf`, and less than "
        "`hf-assisted`."
    ]


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="two lengths, two prompts; writes nothing"
    )
    quick = parser.parse_args().quick
    models = Models(load("zoo:target", device="cpu"), load("zoo:large", device="cpu"))
    for model in (models.target, models.drafter):
        assert model is not None
        model.use_runtime("auto", wait=True)
    lengths, count = (LENGTHS[:2], 2) if quick else (LENGTHS, 30)
    prompts = {length: prompts_of(length, count, models) for length in lengths}
    records = run(models, prompts, warmup=1 if quick else 5)
    text = page(records)
    print(text)
    if not quick:
        (RESULTS / "ttft.md").write_text(text)
        (RESULTS / "ttft.json").write_text(json.dumps(records, indent=1) + "\n")
    return int(any(is_wrong(record) for record in records.values()))


if __name__ == "__main__":
    sys.exit(main())
