"""How fast by default, compiled and eager: python benchmarks/speed.py [--quick] [--limit N]

Writes docs/results/speed.{md,json}: the embedded pair on books and code, 128 new tokens, bfloat16.
Transformers' generate, its assisted generation (tuned), its prompt lookup and its generate compiled
with our compiler's options; our loop compiled and eager, with the default settings and others. All
methods in turn, in one process. Then what a round takes outside of the models, by the clock.
"""

import argparse
import json
import sys
import time
from contextlib import contextmanager

from common import DOCS, RESULTS, measure, ratio, result, shown
from outpace import Decoder
from outpace.bench import BenchPrompt, Models, Record, Writing, fit_prompts, load_prompts
from outpace.bench.methods import Method
from outpace.bench.plan import make_method
from outpace.bench.report import is_wrong, markdown
from outpace.drafters.cascade import CascadeDrafter
from outpace.models import LanguageModel, load
from synthetic import in_runtime

THEIRS = ("hf", "hf-compiled", "hf-assisted-tuned", "hf-prompt-lookup")
OURS = ("plain", "draft", "tree", "prompt-lookup", "suffix", "cascade", "bandit")
EAGER = ("plain", "draft", "cascade")
DEFAULT = "cascade"
"""What is run where nothing else is asked for: suffix decoding, then the embedded drafter."""
SETS = ("pg19", "humaneval")
WANTED = (
    ("plain", ("hf",), "", 4.0),
    (DEFAULT, ("hf",), "pg19", 4.5),
    (DEFAULT, ("hf-assisted-tuned", "hf-prompt-lookup"), "pg19", 4.0),
    (DEFAULT, ("hf-compiled",), "pg19", 1.3),
    (DEFAULT, ("hf",), "humaneval", 6.0),
    (f"{DEFAULT}, eager", ("hf",), "", 1.4),
)
"""A method, what it is compared with (the best of these), on which texts, the ratio wanted."""


def methods(compiled: Models, eager: Models, quick: bool) -> list[Method]:
    """Return all methods, the baselines on the models as they are."""
    theirs = [name for name in THEIRS if not quick or name not in {"hf-compiled", THEIRS[2]}]
    made = [make_method(name, eager, 5) for name in theirs]
    made += [make_method(name, compiled, "gate") for name in OURS]
    for name in EAGER:
        method = make_method(name, eager, "gate")
        method.name = f"{name}, eager"
        made.append(method)
    return made


@contextmanager
def timed(models: list[LanguageModel]):
    """Add up the seconds in the runtimes of models."""
    spent, kept = [0.0], []

    def wrap(call):
        def inner(*given):
            began = time.perf_counter()
            out = call(*given)
            spent[0] += time.perf_counter() - began
            return out

        return inner

    for model in models:
        runtime = model._runtime
        # compiled code itself, where there is some: chains call it without a detour
        for name in [n for n in ("_narrow", "_wide") if hasattr(runtime, n)] or ["run"]:
            kept.append((runtime, name, getattr(runtime, name)))
            setattr(runtime, name, wrap(kept[-1][2]))
    try:
        yield spent
    finally:
        for runtime, name, call in kept:
            setattr(runtime, name, call)


def overhead(
    models: Models, prompts: list[BenchPrompt], tokens: int
) -> dict[str, dict[str, float]]:
    """Return the shares of decoding spent outside of forwards, and the seconds of a round."""
    found = {}
    assert models.drafter is not None
    for name, decoder in {
        "plain": Decoder(models.target),
        "draft": Decoder.from_pretrained(models.target, drafter=models.drafter),
        DEFAULT: Decoder(models.target, CascadeDrafter(model=models.drafter)),
    }.items():
        whole = outside = rounds = 0.0
        with timed([models.target, models.drafter]) as spent:
            for prompt in prompts:
                for repeat in range(3):
                    stream = decoder.stream(prompt.text, max_new_tokens=tokens, ignore_eos=True)
                    next(stream)
                    before, began = spent[0], time.perf_counter()
                    rounds_here = sum(1 for _ in stream)
                    taken = time.perf_counter() - began
                    if repeat:
                        whole += taken
                        outside += taken - (spent[0] - before)
                        rounds += rounds_here
        found[name] = {"share": outside / whole, "round": whole / rounds}
    return found


def page(record: Record) -> str:
    """Return the page: what was wanted, then everything."""
    named = {one["method"] for one in record["results"]}
    lines = [
        "Embedded pair, compiled by the CPU runtime unless a method says eager, and gated; "
        f"`{DEFAULT}` is what is run by default. `hf-compiled` is transformers' own loop with a "
        "static cache, its forward compiled by the same compiler with the same options.",
        "",
        "| method | against | texts | times as fast (95 % interval) | wanted |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one, others, workload, wanted in WANTED:
        there = [name for name in others if name in named]
        if one not in named or not there:
            continue
        numbers = [
            n
            for n, prompt in enumerate(record["prompts"]["texts"])
            if workload in {"", prompt["workload"]}
        ]
        each = [
            (ratio(result(record, other), result(record, one), prompts=numbers), other)
            for other in there
        ]
        interval, other = min(each, key=lambda pair: pair[0].value)
        lines.append(f"| {one} | {other} | {workload or 'all'} | {shown(interval)} | ≥ {wanted} |")
    lines += ["", "Time outside of forwards, decoding only:", ""]
    lines += [
        f"- `{name}`: {one['share']:.1%} of {1000 * one['round']:.2f} ms a round"
        for name, one in record["overhead"].items()
    ]
    return "\n".join(lines) + "\n\n" + markdown(record)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="little text; writes into build/speed")
    parser.add_argument("--limit", type=int, default=10, help="texts of each workload")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page anew")
    options = parser.parse_args()
    folder = DOCS.parent / "build" / "speed" if options.quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "speed.json"
    if options.page:
        record = json.loads(file.read_text())
    else:
        tokens, limit = (24, 1) if options.quick else (128, options.limit)
        eager = Models(load("zoo:target", device="cpu"), load("zoo:large", device="cpu"))
        runtime = "eager" if options.quick else "compile"
        compiled = Models(*(in_runtime(model, runtime) for model in (eager.target, eager.drafter)))
        prompts, cut = fit_prompts(load_prompts(list(SETS), limit=limit), eager, tokens)
        record = measure(
            eager,
            methods(compiled, eager, options.quick),
            prompts,
            Writing(tokens),
            warmup=1 if options.quick else 4,
            cut=cut,
            target="zoo:target",
            drafter="zoo:large",
            draft_length="gate",
            repeats=1,
            command="python benchmarks/speed.py",
        )
        record["config"]["prompts"] = list(SETS)
        record["overhead"] = overhead(compiled, prompts[:: max(1, len(prompts) // 6)], tokens)
        file.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    (folder / "speed.md").write_text(text := page(record))
    print(text)
    return int(is_wrong(record))


if __name__ == "__main__":
    sys.exit(main())
