"""Is the cost gate ever slower? python benchmarks/gate.py [--live] [--quick]

Writes docs/results/gate.{md,json}. What the embedded drafter and prompt lookup would draft, and
what of it would be accepted, is recorded once at every place of real texts; then every draft length
and the gate write these texts again at the costs measured here, without noise. With --live the same
is measured by the clock as well, all methods in turn. --page writes the page anew from the record.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

from common import DOCS, RESULTS, SETS, TEMPERATURES, law, measure, ratio, result, shown
from outpace import Decoder
from outpace.bench import Models, Writing, environment, fit_prompts, load_prompts, make_method
from outpace.bench.replay import Trace, replay, trace
from outpace.drafters import Drafter
from outpace.drafters.model import ModelDrafter
from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.drafters.staircase import round_costs
from outpace.drawing import Drawing
from outpace.lengths.costs import Costs
from outpace.lengths.fixed import FixedLength
from outpace.lengths.gate import GateLength
from outpace.models import LanguageModel, load
from outpace.types import Budget, Context, TokenTree

LENGTHS = range(1, 9)
DEPTH = 12
HOT = 1.5
"""A temperature at which texts are hard to foretell."""
Row = dict[str, Any]


class WrongDrafter(Drafter):
    """A draft model that is never right, at the price of one that may be."""

    def __init__(self, model: LanguageModel) -> None:
        self._inner = ModelDrafter(model)

    def attach(self, target: LanguageModel) -> None:
        self._inner.attach(target)

    def start(self, context: Context, *, resume: bool = False) -> None:
        self._inner.start(context, resume=resume)

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        tokens = self._inner.propose(context, budget, drawing).lists()[0]
        # any other than the drafter's token is wrong nearly always
        return TokenTree.chain(tokens[0], [abs(token - 1) for token in tokens[1:]])

    @property
    def models(self) -> tuple[LanguageModel, ...]:
        return self._inner.models

    @property
    def forwards(self) -> int:
        return self._inner.forwards


def tables(models: Models) -> dict[str, dict[str, Costs]]:
    """Return what rounds cost by drafter, eagerly and as the models are run from now on."""
    target, drafter = models.target, models.drafter
    assert drafter is not None
    found = {}
    for runtime in ("eager", "auto"):
        for model in (target, drafter):
            model.use_runtime(runtime, wait=True)
        model = round_costs(target, [drafter])
        found[target.runtime_name] = {
            "draft": model,
            "wrong": model,
            "as large": round_costs(target, [target]),
            "prompt-lookup": round_costs(target, ()),
        }
    return found


def speeds(texts: Sequence[Trace], costs: Costs, *, has_model: bool) -> Row:
    """Return how many times faster than plain decoding the gate is, and every fixed length."""

    def total(lengths: GateLength | FixedLength) -> float:
        return sum(replay(text, lengths, costs, has_model=has_model).seconds for text in texts)

    plain = sum(len(text) for text in texts) * (costs.verify(1) + costs.overhead)
    gate = GateLength(costs=costs)
    first = replay(texts[0], gate, costs, has_model=has_model)
    cold = first.tokens * costs.verify(1) / first.seconds
    fixed = {length: plain / total(FixedLength(length)) for length in LENGTHS}
    return {"cold": cold, "gate": plain / total(gate), "fixed": fixed}


def record_texts(
    models: Models, sets: Sequence[str], each: int, tokens: int
) -> dict[tuple[str, float], dict[str, list[Trace]]]:
    """Return by workload and temperature, then by drafter, what drafts are worth."""
    found: dict[tuple[str, float], dict[str, list[Trace]]] = {}
    jobs = [(name, temperature) for name in sets for temperature in TEMPERATURES]
    assert models.drafter is not None
    for name, temperature in [*jobs, (sets[0], HOT)]:
        prompts, _ = fit_prompts(load_prompts([name], limit=each), models, tokens)
        drafters = {"draft": ModelDrafter(models.drafter), "prompt-lookup": PromptLookupDrafter()}
        kept: dict[str, list[Trace]] = {drafter: [] for drafter in drafters}
        for prompt in prompts:
            texts = trace(
                models.target,
                list(drafters.values()),
                prompt.text,
                depth=DEPTH,
                max_new_tokens=tokens,
                temperature=temperature,
                seed=0,
                ignore_eos=True,
            )
            for drafter, text in zip(kept, texts, strict=True):
                kept[drafter].append(text)
        some = kept["draft"]
        always = [[DEPTH] * len(text) for text in some]
        kept["wrong"] = [
            Trace(t.prompt, n, [0] * len(t)) for t, n in zip(some, always, strict=True)
        ]
        kept["as large"] = [Trace(t.prompt, n, n) for t, n in zip(some, always, strict=True)]
        found[name, temperature] = kept
        print(f"{name}, {law(temperature)}: {len(prompts)} texts", flush=True)
    return found


def replays(models: Models, sets: Sequence[str], each: int, tokens: int) -> Row:
    """Return the costs and the rows of the table."""
    assert models.drafter is not None
    costs = tables(models)
    rows = []
    for (name, temperature), texts in record_texts(models, sets, each, tokens).items():
        for drafter, traces in texts.items():
            if drafter in {"wrong", "as large"} and (name, temperature) != (sets[0], 0.0):
                continue  # they are the same on every text
            for table, by_drafter in costs.items():
                has_model = drafter != "prompt-lookup"
                row = speeds(traces, by_drafter[drafter], has_model=has_model)
                row |= {"workload": name, "temperature": temperature}
                rows.append({**row, "drafter": drafter, "costs": table})
    return {
        "tokens": tokens,
        "texts": each,
        "costs": {
            table: {
                "verifying": by_drafter["draft"].verifying,
                "drafting": by_drafter["draft"].draft(1),
                "catching_up": by_drafter["draft"].catching_up,
            }
            for table, by_drafter in costs.items()
        },
        "rows": rows,
    }


def live(models: Models, sets: Sequence[str], each: int, tokens: int) -> list[Row]:
    """Return the rows of the table by the clock: plain, the gate and fixed lengths in turn."""
    assert models.drafter is not None
    made: dict[str, Callable[[], Drafter]] = {
        "wrong": lambda: WrongDrafter(models.drafter),
        "as large": lambda: ModelDrafter(models.target),
    }
    rows = []
    jobs = [(name, temperature) for name in sets for temperature in TEMPERATURES]
    for name, temperature in [*jobs, (sets[0], HOT)]:
        prompts, cut = fit_prompts(load_prompts([name], limit=each), models, tokens)
        gated = ("hf", "plain", "draft", "prompt-lookup", "suffix", "tree")
        methods = [make_method(kind, models, "gate") for kind in gated]
        lengths = (1, 2, 3, 5, 8)
        methods += [make_method(f"draft@{length}", models, length) for length in lengths]
        again = make_method("plain", models, "gate")
        again.name = "plain, again"
        methods.append(again)
        if (name, temperature) == (sets[0], 0.0):
            for kind, make in made.items():
                method = make_method("draft", models, "gate")
                method.name, method.decoder = kind, Decoder(models.target, make())
                methods.append(method)
        record = measure(models, methods, prompts, Writing(tokens, temperature), warmup=1, cut=cut)
        plain = result(record, "plain")
        for method in methods[2:]:
            mine = result(record, method.name)
            for one in (plain, mine):
                for run in one["runs"]:
                    run["decoding"] = run["seconds"] - run["ttft_ms"] / 1000
            interval = ratio(plain, mine, "decoding")
            rows.append(
                {
                    "workload": name,
                    "temperature": temperature,
                    "method": method.name,
                    "speedup": interval.value,
                    "shown": shown(interval),
                }
            )
    return rows


def verdict(row: Row) -> tuple[float, float]:
    """Return the gate over plain decoding when it begins, and over the best of all once warm."""
    return min(row["cold"], row["gate"]), row["gate"] / max(1.0, *row["fixed"].values())


def page(record: Row) -> str:
    """Return the page."""
    where, made = record["environment"], record["replay"]
    worst = [verdict(row) for row in made["rows"]]
    lines = [
        "# The gate against every fixed length",
        "",
        f"Made by `python benchmarks/gate.py` on {where['cpu']['name']}, {where['threads']} "
        f"threads, torch {where['versions']['torch']}. Embedded pair, bfloat16, "
        f"{made['tokens']} new tokens, {made['texts']} texts a row. "
        f"Figures are times faster than plain decoding.",
        "",
        f"At worst the gate is {min(low for low, _ in worst):.3f} × plain decoding, and "
        f"{min(best for _, best in worst):.3f} × the best of plain decoding and K = "
        f"{LENGTHS[0]} … {LENGTHS[-1]} once warm; at the median the latter is "
        f"{statistics.median(best for _, best in worst):.3f}.",
        "",
        "## Replayed at fixed costs",
        "",
        "Texts written once, then again at costs without noise, as measured when this page was "
        "made. *First* is the first text of a gate that knows nothing; *gate* all texts, "
        "that one known. *wrong* is a draft model that is never right, *as large* one of the size "
        "of the target that always is.",
        "",
        "| text | drafter | costs | first | gate | best K | its speed | gate ÷ best |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in made["rows"]:
        fixed = {int(length): speed for length, speed in row["fixed"].items()}
        best = max(fixed, key=fixed.__getitem__)
        k, speed = (best, fixed[best]) if fixed[best] > 1 else (0, 1.0)
        text = f"{row['workload']}, {law(row['temperature'])}"
        lines.append(
            f"| {text} | {row['drafter']} | {row['costs']} | {row['cold']:.2f} | "
            f"{row['gate']:.2f} | {k} | {speed:.2f} | {row['gate'] / speed:.3f} |"
        )
    lines += ["", "Costs, in milliseconds by width:", ""]
    for name, costs in made["costs"].items():
        verifying = costs["verifying"].items()
        steps = ", ".join(f"{width}: {1000 * cost:.2f}" for width, cost in verifying)
        lines.append(f"- {name}: {steps}; a forward of the drafter {1000 * costs['drafting']:.2f}")
    if record.get("live"):
        lines += [
            "",
            "## By the clock",
            "",
            "The same pair in one process, methods in turn; decoding without the prefill, with a "
            "95 % interval over texts. Methods without a number are gated. *plain, again* is plain "
            "decoding a second time: as far as that is from 1, nothing can be told here.",
            "",
            "| text | method | × plain |",
            "| --- | --- | --- |",
        ]
        for row in record["live"]:
            text = f"{row['workload']}, {law(row['temperature'])}"
            lines.append(f"| {text} | {row['method']} | {row['shown']} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--live", action="store_true", help="measure by the clock as well")
    parser.add_argument("--quick", action="store_true", help="little text; writes into build/gate")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page anew")
    parser.add_argument("--texts", type=int, default=4, help="of each workload")
    parser.add_argument("--tokens", type=int, default=512, help="of each text")
    options = parser.parse_args()
    folder = DOCS.parent / "build" / "gate" if options.quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "gate.json"
    if options.page:
        record = json.loads(file.read_text())
    else:
        sets, each, tokens = SETS, options.texts, options.tokens
        if options.quick:
            sets, each, tokens = SETS[:1], 1, 48
        models = Models(load("zoo:target", device="cpu"), load("zoo:large", device="cpu"))
        record = {"environment": environment(), "replay": replays(models, sets, each, tokens)}
        if options.live:
            record["live"] = live(models, sets, each, tokens)
        text = json.dumps(record, indent=1)
        rounded = json.loads(text, parse_float=lambda digits: float(f"{float(digits):.5g}"))
        file.write_text(json.dumps(rounded, indent=1) + "\n")
    (folder / "gate.md").write_text(text := page(record))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
