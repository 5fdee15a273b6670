"""What each part of the loop gains: python benchmarks/ablation.py [--quick] [--texts N]

Writes docs/results/ablation.{md,json}: the embedded pair with one thing done in another way each
time: keys and values computed again after a rejection, written token by token, grown and cropped;
shapes as they come; other attention; eager and compiled; five draft tokens and the gate. All of it
is one run, in turn on the same prompts.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace

from ablation_variants import (
    Cropped,
    Rebuilt,
    RebuiltOneByOne,
    Variant,
    WrittenOneByOne,
    repeated,
    sdpa,
    shapes_as_they_come,
    written_out,
)
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
from outpace.bench.methods import Method
from outpace.bench.report import is_wrong
from outpace.errors import RuntimeUnavailable
from outpace.models import LanguageModel, load

NEW_TOKENS = 128
LONG = 1024
"""Prompt tokens of the long texts, on which attention and copies weigh more."""
GATE = "gate"
"""The length controller that is compared with five draft tokens a round."""
STEPS = (
    ("five draft tokens a round", "plain", "draft"),
    ("keys and values kept, not computed again by a forward", "rebuilt", "draft"),
    ("… not computed again token by token", "rebuilt one by one", "draft"),
    ("keys and values of a round written at once, not one by one", "written one by one", "draft"),
    ("slots instead of `torch.cat` and `crop`", "cropped", "shapes as they come"),
    ("static shapes, eager", "shapes as they come", "draft"),
    ("grouped queries packed, keys not repeated", "repeated keys", "draft"),
    ("our attention instead of transformers' `sdpa`", "sdpa", "draft"),
    ("our attention instead of transformers' `eager`", "eager attention", "draft"),
    ("compiled, without a drafter", "plain", "plain, compiled"),
    ("compiled, five draft tokens", "draft", "draft, compiled"),
    ("the gate instead of five, eager", "draft", "gate"),
    ("the gate instead of five, compiled", "draft, compiled", "gate, compiled"),
    ("all of it", "hf", "gate, compiled"),
)
"""What is gained, the method without it, the method with it."""
FLASH = (
    "**Why FlashAttention-2 is not among the backends.** Its kernels compute the mask from "
    "positions while they run and know three kinds: causal, a sliding window, and ALiBi's slopes. "
    "They take no mask as a tensor. A node of a token tree sees the text and its own ancestors but "
    "not the siblings that lie between them, which none of the three can say; nor can they leave "
    "out free slots in the midst of the cache. A chain alone would do, if its slots lay in order. "
    "So a tree needs attention with an additive mask, as PyTorch's scaled dot product attention "
    "computes it (its memory-efficient kernel on a GPU), a mask compiled into the kernel as "
    "FlexAttention does, or a kernel of one's own."
)


def methods(eager: Models, compiled: Models) -> list[Method]:
    """Return everything that is compared; ``draft`` is the loop as it is, eager."""
    return [
        make_method("hf", eager, 5),
        Variant("plain", eager, "plain"),
        Variant("draft", eager),
        Variant("rebuilt", eager, held=Rebuilt),
        Variant("rebuilt one by one", eager, held=RebuiltOneByOne),
        Variant("written one by one", eager, held=WrittenOneByOne),
        Variant("cropped", eager, held=Cropped),
        Variant("shapes as they come", eager, changes=[shapes_as_they_come]),
        Variant("repeated keys", eager, changes=[repeated]),
        Variant("sdpa", eager, changes=[sdpa]),
        Variant("eager attention", eager, changes=[written_out]),
        Variant("plain, compiled", compiled, "plain"),
        Variant("draft, compiled", compiled),
        Variant("gate", eager, f"draft@{GATE}"),
        Variant("gate, compiled", compiled, f"draft@{GATE}"),
    ]


def compiled_model(name: str) -> LanguageModel:
    """Load a model and compile it here and now: no switch in the middle of a run.

    Raises:
        RuntimeUnavailable: it cannot be compiled here.
    """
    model = load(name, device="cpu", runtime="eager")
    model.use_runtime("compile", wait=True, note=lambda what: print(what, file=sys.stderr))
    if model.runtime_name != "compile":
        raise RuntimeUnavailable(model.runtime_note or f"{name} is not compiled")
    return model


def prompts_for(models: Models, each: int) -> list[BenchPrompt]:
    """Return books and code, and as many long passages of books."""
    short = load_prompts(["pg19", "humaneval"], limit=each)
    long = load_prompts(["pg19"], limit=each, prompt_tokens=LONG)
    long = [replace(prompt, workload="long") for prompt in long]
    return fit_prompts([*short, *long], models, NEW_TOKENS)[0]


def page(record: Record) -> str:
    """Return the record as tables."""
    workloads = list(dict.fromkeys(text["workload"] for text in record["prompts"]["texts"]))
    lines = ["# What each part gains", ""]
    lines += [f"| part | without → with | all texts | {' | '.join(workloads)} |"]
    lines += ["|" + " --- |" * (3 + len(workloads))]
    for label, without, with_it in STEPS:
        cells = [label, f"{without} → {with_it}", _gain(record, without, with_it, None)]
        cells += [_gain(record, without, with_it, workload) for workload in workloads]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| method | tokens/s × hf | tokens a forward | same text |", "|" + " --- |" * 4]
    hf = result(record, "hf")
    for one in record["results"]:
        length = one["mean_acceptance_length"]
        kinds = {difference["kind"] for difference in one["differences"]}
        same = "yes" if not kinds else " and ".join(sorted(kinds))
        lines.append(
            f"| {one['method']} | {shown(ratio(hf, one))} | "
            f"{'–' if length is None else f'{length:.2f}'} | {same} |"
        )
    config = record["config"]
    lines += [
        "",
        FLASH,
        "",
        "A gain is the time without the part over the time with it, with its 95 % interval "
        "(bootstrapped over prompts). Every variant differs from `draft` (five draft tokens a "
        "round, eager, slots, static shapes, packed attention) in one thing, which is changed for "
        "target and drafter alike; `cropped` has no static shapes either, so it stands beside the "
        "slots that have none. Same text: *numerical* are near ties. zoo:target with zoo:large, "
        f"{config['dtype']}, greedy, {config['max_new_tokens']} new tokens, "
        f"{record['prompts']['count']} prompts, {LONG:,} tokens in the "
        f"long ones. {machine(record)}. Made by `python benchmarks/ablation.py`.",
    ]
    return "\n".join(lines) + "\n"


def _gain(record: Record, without: str, with_it: str, workload: str | None) -> str:
    texts = record["prompts"]["texts"]
    chosen = [n for n, text in enumerate(texts) if workload in {None, text["workload"]}]
    return shown(ratio(result(record, without), result(record, with_it), prompts=chosen))


def run(
    eager: Models, compiled: Models, prompts: Sequence[BenchPrompt], writing: Writing, warmup: int
) -> Record:
    """Measure everything in turn."""
    return measure(eager, methods(eager, compiled), prompts, writing, warmup=warmup)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="one prompt of each kind; writes nothing"
    )
    parser.add_argument("--texts", type=int, default=12, help="of each kind")
    options = parser.parse_args()
    quick = options.quick
    eager = Models(
        load("zoo:target", device="cpu", runtime="eager"),
        load("zoo:large", device="cpu", runtime="eager"),
    )
    compiled = Models(compiled_model("zoo:target"), compiled_model("zoo:large"))
    prompts = prompts_for(eager, 1 if quick else options.texts)
    record = run(eager, compiled, prompts, Writing(NEW_TOKENS), warmup=1 if quick else 4)
    text = page(record)
    print(text)
    if not quick:
        (RESULTS / "ablation.md").write_text(text)
        (RESULTS / "ablation.json").write_text(json.dumps(record, indent=1) + "\n")
    return int(is_wrong(record))


if __name__ == "__main__":
    sys.exit(main())
