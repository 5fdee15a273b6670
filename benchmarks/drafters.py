"""Every drafter on every kind of text: python benchmarks/drafters.py [--quick]

Writes docs/results/drafters.{md,json} and docs/images/drafters.png: the embedded pair; those
methods that came first on some texts once more, on more texts; and a model of 163 M parameters that
computes what the embedded target computes, with the same drafter. Each greedy and at temperature
0.8. Finished parts are kept; --only measures some, --resume those that are missing, --page writes
the page and the picture anew from the record.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from common import DOCS, RESULTS, SETS, TEMPERATURES, law, measure
from drafters_page import TITLES, Part, draw, page
from outpace.bench import (
    BenchPrompt,
    Models,
    Writing,
    check_methods,
    fit_prompts,
    load_prompts,
    make_method,
)
from outpace.bench.methods import Method
from outpace.bench.report import is_wrong
from outpace.bench.texts import spread
from outpace.cli.interrupt import INTERRUPTED, interruptible
from outpace.data import checkpoint
from outpace.errors import OutpaceError
from outpace.models import LanguageModel, load, wrap
from outpace.models.attention import use_slot_attention
from outpace.zoo.shapes import WIDE
from outpace.zoo.widened import widened

OTHER = "TinyStories-656K"
"""A model with another tokenizer, in the folder models/ of the data root."""
METHODS = (
    "hf",
    "plain",
    "draft@2",
    "draft@3",
    "draft@5",
    "draft@8",
    "tree",
    "prompt-lookup@5",
    "prompt-lookup@10",
    "ngram@5",
    "ngram@10",
    "suffix",
    "recycling",
    "lookahead",
    "early-exit@2",
    "quantized-self@3",
    "quantized-self@5",
    "quantized-self@7",
    "quantized-self(precision=int4)@3",
    f"retokenized:{OTHER}@3",
    "cascade",
    "bandit",
)
QUICK = (
    "hf",
    "plain",
    "draft@2",
    "prompt-lookup@10",
    "suffix",
    "quantized-self@3",
    f"retokenized:{OTHER}@3",
    "bandit",
)
MEAN_TIME = 0.9
"""Of a text of any method beside transformers', the comparing of texts included: to plan with."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is written for one target.

    Attributes:
        each: passages or problems of each set.
        questions: prompts of each category of Spec-Bench.
        every: 1 takes all categories, 2 each second one …
        new_tokens: of every text.
        warmup: texts a method writes before anything counts.
    """

    each: int
    questions: int
    every: int
    new_tokens: int
    warmup: int


PLANS = {
    "pair": Plan(6, 2, 1, 64, 3),
    "more": Plan(12, 1, 1, 64, 3),
    "wide": Plan(1, 1, 4, 32, 1),
}
QUICK_PLANS = {
    "pair": Plan(1, 1, 13, 32, 1),
    "more": Plan(1, 1, 13, 32, 1),
    "wide": Plan(1, 1, 13, 16, 1),
}
CLOSEST = ("draft@2", "tree", "suffix", "ngram@10", "quantized-self@7", "cascade", "bandit")
"""Of all, those that came first on some texts: they are told apart on more of them."""


def target(kind: str) -> LanguageModel:
    """Return the target of a part, in bfloat16."""
    if kind != "wide":
        return load("zoo:target", device="cpu")
    trained = load("zoo:target", dtype="float32", device="cpu")
    with trained.stock() as stock:
        model = widened(stock, WIDE).to(torch.bfloat16)
    wide = wrap(model, trained.tokenizer, name="zoo:target widened to 163 M parameters")
    use_slot_attention(model)
    return wide


def questions(each: int, every: int) -> list[BenchPrompt]:
    """Return ``each`` questions of all categories of Spec-Bench, or of every second one …"""
    groups: dict[str, list[BenchPrompt]] = {}
    found = load_prompts(["spec-bench"], limit=sys.maxsize)
    for one in sorted(found, key=lambda one: int(one.name.rpartition("/")[2])):
        groups.setdefault(_category(one), []).append(one)
    chosen = [spread(group, each) for group in list(groups.values())[::every]]
    return [one for row in zip(*chosen, strict=True) for one in row]


def _category(prompt: BenchPrompt) -> str:
    return prompt.name.partition("/")[0]


def methods(names: Sequence[str], models: Models) -> tuple[list[Method], dict[str, str]]:
    """Return the methods that can run, and why others cannot."""
    made, left_out = [], {}
    for name in dict.fromkeys(["hf", "plain", *names]):
        drafter, at, length = name.partition("@")
        asked = name
        if drafter == f"retokenized:{OTHER}":
            folder = checkpoint(OTHER)
            if folder is None:
                left_out[name] = f"no models/{OTHER} in the data folder"
                continue
            asked = f"retokenized:{folder}{at}{length}"
        try:
            check_methods([asked])  # or a name that nothing has is looked for on the hub
            method = make_method(asked, models, 5)
        except OutpaceError as error:
            left_out[name] = str(error).partition(":")[0]
            continue
        method.name = name
        made.append(method)
    return made, left_out


@dataclass(frozen=True, slots=True)
class Job:
    """A part that is to be measured.

    Attributes:
        kind: of target.
        temperature: 0 is greedy.
        models: the pair, shared by the jobs of a kind.
        prompts: what to continue.
        cut: how many of them were too long.
        plan: how much.
        seconds: that a text of transformers' generate takes.
    """

    kind: str
    temperature: float
    models: Models
    prompts: list[BenchPrompt]
    cut: int
    plan: Plan
    seconds: float

    def describe(self, methods: int) -> float:
        """Print what will be measured; return how many minutes it may take."""
        texts = methods * (len(self.prompts) + self.plan.warmup + 1)
        minutes = texts * MEAN_TIME * self.seconds / 60
        print(
            f"{TITLES[self.kind]}, {law(self.temperature)}: {methods} methods, {len(self.prompts)} "
            f"prompts, {self.plan.new_tokens} new tokens, {texts} texts with the warm-up: about "
            f"{minutes:.1f} min",
            flush=True,
        )
        return minutes

    def run(self, names: Sequence[str]) -> Part:
        """Measure it."""
        made, left_out = methods(names, self.models)
        print(f"{TITLES[self.kind]}, {law(self.temperature)}", flush=True)
        for name, why in left_out.items():
            print(f"  left out {name}: {why}")
        began = time.monotonic()
        record = measure(
            self.models,
            made,
            self.prompts,
            Writing(self.plan.new_tokens, self.temperature),
            warmup=self.plan.warmup,
            cut=self.cut,
            target=self.models.target.name,
            drafter="zoo:large",
            left_out=left_out,
        )
        minutes = (time.monotonic() - began) / 60
        print(f"  took {minutes:.1f} min", flush=True)
        return {"kind": self.kind, "minutes": minutes, **record}


def jobs(todo: Sequence[tuple[str, float]], plans: dict[str, Plan]) -> list[Job]:
    """Load what is needed and choose the prompts."""
    made = []
    for kind in dict.fromkeys(kind for kind, _ in todo):
        plan = plans[kind]
        models = Models(target(kind), load("zoo:large", device="cpu"))
        texts = load_prompts(SETS[:-1], limit=plan.each) + questions(plan.questions, plan.every)
        prompts, cut = fit_prompts(texts, models, plan.new_tokens)
        seconds = _seconds(make_method("hf", models, 5), prompts, Writing(plan.new_tokens))
        made += [
            Job(kind, temperature, models, prompts, cut, plan, seconds)
            for other, temperature in todo
            if other == kind
        ]
    return made


def _seconds(method: Method, prompts: Sequence[BenchPrompt], writing: Writing) -> float:
    """Return how long a text takes, by a few; the first one warms up."""
    chosen = [prompts[0], *spread(prompts, 4)]
    took = []
    for prompt in chosen:
        with method.ready():
            took.append(method.write(prompt, writing).seconds)
    return sum(took[1:]) / len(took[1:])


def kept(part: Part) -> Part:
    """Return a part without what follows from its runs, its numbers rounded."""
    derived = {"tokens_per_second", "breakdown", "first_difference", "repeated_8gram_share"}
    part["results"] = [
        {key: value for key, value in one.items() if key not in derived} for one in part["results"]
    ]
    return json.loads(json.dumps(part), parse_float=lambda digits: float(f"{float(digits):.6g}"))


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="few prompts and methods; writes into build/drafters"
    )
    parser.add_argument("--only", choices=PLANS, help="measure this target; keep the other")
    parser.add_argument("--resume", action="store_true", help="measure the parts that are missing")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page anew")
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", help="instead of those of the program"
    )
    options = parser.parse_args()
    folder = DOCS.parent / "build" / "drafters" if options.quick else RESULTS
    picture = folder / "drafters.png" if options.quick else DOCS / "images" / "drafters.png"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "drafters.json"
    keeps = options.page or options.resume or options.only
    parts: list[Part] = json.loads(file.read_text()) if keeps and file.is_file() else []
    if not options.page:
        parts = [p for p in parts if options.resume or p["kind"] != options.only]
        plans = QUICK_PLANS if options.quick else PLANS
        names = dict.fromkeys(plans, options.methods or (QUICK if options.quick else METHODS))
        if not options.methods:
            names["more"] = CLOSEST
        if code := measure_parts(parts, options.only, plans, names, file):
            return code
    text = page(parts)
    (folder / "drafters.md").write_text(text)
    draw(parts, picture)
    print(text)
    return int(any(is_wrong(part) for part in parts))


@interruptible
def measure_parts(
    parts: list[Part],
    only: str | None,
    plans: dict[str, Plan],
    names: dict[str, Sequence[str]],
    file: Path,
) -> int:
    """Measure what is not among the parts, and keep each as soon as it is done."""
    done = {(part["kind"], part["config"]["temperature"]) for part in parts}
    every = [(kind, temperature) for kind in plans for temperature in TEMPERATURES]
    todo = [one for one in every if one not in done and only in {None, one[0]}]
    planned = jobs(todo, plans)
    minutes = [job.describe(len({"hf", "plain", *names[job.kind]})) for job in planned]
    print(f"about {sum(minutes):.0f} min in all", flush=True)
    for job in planned:
        part = job.run(names[job.kind])
        if part["interrupted"] or part["failed"]:
            print(f"not kept: {part['failed'] or 'interrupted'}", file=sys.stderr)
            return INTERRUPTED if part["interrupted"] else 1
        parts.append(kept(part))
        parts.sort(key=lambda one: every.index((one["kind"], one["config"]["temperature"])))
        new = file.with_suffix(".new")
        new.write_text(json.dumps(parts, indent=0) + "\n")
        new.replace(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
