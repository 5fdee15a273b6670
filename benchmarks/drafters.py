"""Every drafter on every kind of text: python benchmarks/drafters.py [--quick] [--only pair|wide]

Writes docs/results/drafters.{md,json} and docs/images/drafters.png: the embedded pair, and a model
of 163 M parameters that computes what the embedded target computes, with the same drafter; each
greedy and at temperature 0.8. Finished parts are kept; --resume measures those that are missing,
--page writes the page and the picture anew from the record.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common import (
    DOCS,
    RESULTS,
    SETS,
    TEMPERATURES,
    law,
    machine,
    measure,
    percent,
    ratio,
    result,
    shown,
)
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
from outpace.bench.metrics import LOOPING, Interval
from outpace.bench.report import is_wrong
from outpace.bench.workloads import spread
from outpace.cli.interrupt import INTERRUPTED, interruptible
from outpace.compose import RETOKENIZED
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
    f"{RETOKENIZED}{OTHER}@3",
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
    f"{RETOKENIZED}{OTHER}@3",
    "bandit",
)
CHAINS, COMBINED = "draft@", ("cascade", "bandit")
MEAN_TIME = 0.9
"""Of a text of any method beside transformers', the comparing of texts included: to plan with."""
Part = dict[str, Any]
"""A record, and which part of the whole it is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is written for one target.

    Attributes:
        title: what the target is.
        each: passages or problems of each set.
        questions: prompts of each category of Spec-Bench.
        every: take only each so manieth category.
        new_tokens: of every text.
        warmup: texts a method writes before anything counts.
    """

    title: str
    each: int
    questions: int
    every: int
    new_tokens: int
    warmup: int


PLANS = {
    "pair": Plan("the embedded pair", 6, 2, 1, 64, 3),
    "wide": Plan("163 M parameters", 2, 1, 2, 48, 1),
}
QUICK_PLANS = {
    "pair": Plan("the embedded pair", 1, 1, 13, 32, 1),
    "wide": Plan("163 M parameters", 1, 1, 13, 16, 1),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one method over some texts.

    Attributes:
        speed: tokens a second over those of transformers' generate.
        acceptance: accepted draft tokens over all.
        length: tokens a forward of the target.
        share: of the time of the rounds that went into drafting.
        store: bytes of what the drafter has learnt, at most.
        texts: how many are identical, near ties, different; None where nothing is compared.
    """

    speed: Interval
    acceptance: float | None
    length: float | None
    share: float | None
    store: int | None
    texts: tuple[int, int, int] | None


def target(kind: str) -> LanguageModel:
    """Return the target of a part, in bfloat16."""
    if kind == "pair":
        return load("zoo:target", device="cpu")
    trained = load("zoo:target", dtype="float32", device="cpu")
    with trained.stock() as stock:
        model = widened(stock, WIDE).to(torch.bfloat16)
    wide = wrap(model, trained.tokenizer, name="zoo:target widened to 163 M parameters")
    use_slot_attention(model)
    return wide


def questions(each: int, every: int) -> list[BenchPrompt]:
    """Return as many questions of each category of Spec-Bench, or of each so manieth one."""
    kinds = {_category(one) for one in load_prompts(["spec-bench"], limit=sys.maxsize)}
    found = load_prompts(["spec-bench"], limit=each * len(kinds))
    chosen = list(dict.fromkeys(map(_category, found)))[::every]
    return [one for one in found if _category(one) in chosen]


def _category(prompt: BenchPrompt) -> str:
    return prompt.name.partition("/")[0]


def methods(names: Sequence[str], models: Models) -> tuple[list[Method], dict[str, str]]:
    """Return the methods that can run, and why others cannot."""
    made, left_out = [], {}
    for name in dict.fromkeys(["hf", "plain", *names]):
        drafter, at, length = name.partition("@")
        asked = name
        if drafter == RETOKENIZED + OTHER:
            folder = checkpoint(OTHER)
            if folder is None:
                left_out[name] = f"no models/{OTHER} in the data folder"
                continue
            asked = f"{RETOKENIZED}{folder}{at}{length}"
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
            f"{self.plan.title}, {law(self.temperature)}: {methods} methods, {len(self.prompts)} "
            f"prompts, {self.plan.new_tokens} new tokens, {texts} texts with the warm-up: about "
            f"{minutes:.1f} min",
            flush=True,
        )
        return minutes

    def run(self, names: Sequence[str]) -> Part:
        """Measure it."""
        made, left_out = methods(names, self.models)
        print(f"{self.plan.title}, {law(self.temperature)}", flush=True)
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


def figures(part: Part, name: str, prompts: Sequence[int]) -> Figures:
    """Return what a method did on some of the prompts."""
    one = result(part, name)
    runs = [run for run in one["runs"] if run["prompt"] in prompts]
    keys = ("forwards", "emitted", "drafted", "accepted", "drafting", "verifying")
    total = {key: sum(run[key] or 0 for run in runs) for key in keys}
    stores = [run["store_bytes"] for run in runs if run.get("store_bytes") is not None]
    texts = None
    if one["identical"] is not None:
        kinds = {d["prompt"]: d["kind"] for d in one["differences"] if d["prompt"] in prompts}
        ties = sum(kind == "numerical" for kind in kinds.values())
        texts = (len(prompts) - len(kinds), ties, len(kinds) - ties)
    drafts = total["drafted"] > 0
    rounds = total["drafting"] + total["verifying"]
    return Figures(
        ratio(result(part, "hf"), one, prompts=prompts),
        total["accepted"] / total["drafted"] if drafts else None,
        total["emitted"] / total["forwards"] if total["forwards"] else None,
        total["drafting"] / rounds if drafts and total["drafting"] else None,
        max(stores, default=None),
        texts,
    )


def groups(part: Part, workload: str | None = None) -> dict[str, list[int]]:
    """Return the numbers of the texts: all, those in circles, and those that are not.

    A text is in circles where the one of the reference is: every method writes the same text.
    """
    texts = [
        (number, one["repeated_8gram_share"] > LOOPING)
        for number, one in enumerate(part["prompts"]["texts"])
        if workload in {None, one["workload"]}
    ]
    return {
        "all": [number for number, _ in texts],
        "not repeating": [number for number, loops in texts if not loops],
        "repeating": [number for number, loops in texts if loops],
    }


def page(parts: Sequence[Part]) -> str:
    """Return the parts as tables, and what is claimed of them."""
    lines = [
        "Which method is fastest on which text; how to read it: [Drafters](../drafters.md).",
        "",
    ]
    lines += ["![Tokens a second of every drafter](../images/drafters.png)", ""]
    for part in parts:
        lines += [f"## {_title(part)}", "", *_about(part), "", *_overview(part), ""]
        for workload in SETS:
            lines += _workload(part, workload)
    lines += ["## The claims", "", *_claims(parts)]
    commits = {(part["environment"]["git"] or {}).get("commit", "")[:12] for part in parts}
    lines += [
        "",
        "Intervals are 95 %, bootstrapped over prompts. Draft share: of the time of the rounds. "
        "The last column counts texts that are identical to those of `hf` (sampled: of `plain`), "
        "that differ by a near tie of bfloat16, and that differ otherwise. All methods of a part "
        "took turns on the same prompts in one process. "
        f"{'; '.join(dict.fromkeys(map(machine, parts)))}; commit {', '.join(sorted(commits))}. "
        "Made by `python benchmarks/drafters.py`.",
    ]
    return "\n".join(lines) + "\n"


def _title(part: Part) -> str:
    title = PLANS[part["kind"]].title
    return f"{title[0].upper()}{title[1:]}, {law(part['config']['temperature'])}"


def _about(part: Part) -> Iterator[str]:
    config = part["config"]
    yield (
        f"{config['target']} with {config['drafter']}, {config['dtype']}, "
        f"{config['max_new_tokens']} new tokens each; {part['prompts']['cut']} prompts cut to "
        "their end."
    )
    for name, why in config["left_out"].items():
        yield f"Left out `{name}`: {why}."


def _overview(part: Part) -> list[str]:
    """Return a table of speeds alone: all texts of each set, then of both classes."""
    columns = {name: groups(part, name)["all"] for name in SETS}
    both = groups(part)
    columns |= {f"all, {name}": both[name] for name in ("not repeating", "repeating")}
    columns = {name: prompts for name, prompts in columns.items() if prompts}
    heads = [f"{name} ({len(prompts)})" for name, prompts in columns.items()]
    best = {name: max(_speeds(part, prompts).values()) for name, prompts in columns.items()}
    lines = ["Tokens/s × hf, by set (texts), those that repeat themselves included:", ""]
    lines += [f"| method | {' | '.join(heads)} |", "|" + " --- |" * (len(heads) + 1)]
    for method in part["config"]["methods"]:
        cells = []
        for name, prompts in columns.items():
            speed = _speeds(part, prompts)[method]
            cells.append(f"**{speed:.2f}**" if speed == best[name] else f"{speed:.2f}")
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return lines


def _speeds(part: Part, prompts: Sequence[int]) -> dict[str, float]:
    """Return tokens a second × hf by method."""
    took = {
        one["method"]: sum(run["seconds"] for run in one["runs"] if run["prompt"] in prompts)
        for one in part["results"]
    }
    return {name: took["hf"] / seconds for name, seconds in took.items()}


def _workload(part: Part, workload: str) -> list[str]:
    """Return the tables of a set: texts that do not repeat themselves, and those that do."""
    found = groups(part, workload)
    count = len(found.pop("all"))
    if not count:
        return []
    sizes = ", ".join(f"{len(prompts)} {name}" for name, prompts in found.items())
    lines = [f"### {workload}, {law(part['config']['temperature'])}: {sizes}", ""]
    for name, prompts in found.items():
        if len(prompts) == 1 and count > 1:
            lines += [
                f"One text is {name}: too few for a table; it counts in the speeds above.",
                "",
            ]
        elif prompts:
            texts = "text" if len(prompts) == 1 else "texts"
            lines += [f"{len(prompts)} {texts}, {name}:", "", *_table(part, prompts), ""]
    return lines


def _table(part: Part, prompts: Sequence[int]) -> list[str]:
    rows = {name: figures(part, name, prompts) for name in part["config"]["methods"]}
    stores = any(one.store is not None for one in rows.values())
    heads = ["method", "tokens/s × hf", "acceptance", "tokens a forward", "draft share"]
    heads += ["store MB"] * stores + ["identical / near ties / different"]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for name, one in rows.items():
        cells = [f"`{name}`", shown(one.speed), percent(one.acceptance)]
        cells += ["–" if one.length is None else f"{one.length:.2f}", percent(one.share)]
        cells += ["–" if one.store is None else f"{one.store / 1e6:.2f}"] * stores
        cells += ["–" if one.texts is None else " / ".join(map(str, one.texts))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _claims(parts: Sequence[Part]) -> Iterator[str]:
    """Yield the tables of what this is measured for.

    The best of several is chosen on the texts it is then compared on.
    """
    yield "The best of several is chosen on the texts it is compared on, which favours it a little."
    for title, rows in (
        ("HumanEval: the best drafter over the best chain of the draft model", _over_chain),
        ("`bandit` over the best single drafter", _bandit),
        ("`quantized-self` over `hf` on the embedded target", _quantized),
    ):
        head, *cells = [row for part in parts for row in rows(part)] or [()]
        if not head:
            continue
        yield from ("", f"### {title}", "")
        columns = ["target", "texts", "the one", "beside", "tokens/s, ratio", "acceptance"]
        yield from (f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns))
        yield from (f"| {' | '.join(row)} |" for row in (head, *cells))


def _over_chain(part: Part) -> Iterator[tuple[str, ...]]:
    for label, prompts in _classes(part, "humaneval"):
        speeds = _speeds(part, prompts)
        chains = [name for name in speeds if name.startswith(CHAINS)]
        others = [name for name in speeds if name not in {"hf", "plain", *chains}]
        if chains and others:
            one, other = (max(names, key=speeds.__getitem__) for names in (others, chains))
            yield _claim(part, label, prompts, one, other)


def _bandit(part: Part) -> Iterator[tuple[str, ...]]:
    for workload in (*SETS, None):
        for label, prompts in _classes(part, workload):
            speeds = _speeds(part, prompts)
            single = [name for name in speeds if name not in {"hf", "plain", *COMBINED}]
            if "bandit" in speeds and single:
                best = max(single, key=speeds.__getitem__)
                yield _claim(part, label, prompts, "bandit", best)


def _quantized(part: Part) -> Iterator[tuple[str, ...]]:
    if part["kind"] != "pair":
        return
    for name in part["config"]["methods"]:
        if name.startswith("quantized-self"):
            for label, prompts in _classes(part, None):
                yield _claim(part, label, prompts, name, "hf")


def _classes(part: Part, workload: str | None) -> Iterator[tuple[str, list[int]]]:
    """Yield the classes of texts, each once: where all texts are of one class, that alone."""
    found = groups(part, workload)
    for name, prompts in found.items():
        if prompts and (name == "all" or len(prompts) < len(found["all"])):
            yield f"{workload or 'every set'}, {name} ({len(prompts)})", prompts


def _claim(
    part: Part, label: str, prompts: Sequence[int], name: str, other: str
) -> tuple[str, ...]:
    interval = ratio(result(part, other), result(part, name), prompts=prompts)
    acceptance = figures(part, name, prompts).acceptance
    return (_title(part), label, f"`{name}`", f"`{other}`", shown(interval), percent(acceptance))


def draw(parts: Sequence[Part], file: Path) -> None:
    """Draw the speed of each method on each set, greedy and sampled."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    kinds = list(dict.fromkeys(part["kind"] for part in parts))
    names = list(dict.fromkeys(name for part in parts for name in part["config"]["methods"][1:]))
    height = len(kinds) * (0.26 * len(names) + 1.1)
    figure, axes = plt.subplots(
        len(kinds), len(SETS), figsize=(13, height), sharey=True, sharex="row", squeeze=False
    )
    looks = {0.0: ("tab:blue", "o", -0.15), 0.8: ("tab:orange", "s", 0.15)}
    for part in parts:
        temperature = part["config"]["temperature"]
        color, marker, shift = looks[temperature]
        for place, workload in enumerate(SETS):
            panel = axes[kinds.index(part["kind"])][place]
            prompts = groups(part, workload)["all"]
            for name in part["config"]["methods"][1:] if prompts else ():
                speed = figures(part, name, prompts).speed
                row = names.index(name) + shift
                if speed.low is not None:
                    panel.plot([speed.low, speed.high], [row, row], color=color, alpha=0.45)
                panel.plot(speed.value, row, marker, color=color, markersize=4)
    for row, kind in enumerate(kinds):
        for place, workload in enumerate(SETS):
            panel = axes[row][place]
            panel.axvline(1.0, color="0.5", linewidth=0.8)
            panel.grid(axis="y", color="0.92")
            panel.set_axisbelow(True)
            panel.spines[["top", "right"]].set_visible(False)
            panel.set_title(f"{workload}, {PLANS[kind].title}", fontsize=10)
        axes[row][0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0][0].invert_yaxis()
    for panel in axes[-1]:
        panel.set_xlabel("tokens/s × transformers' generate")
    handles = [
        plt.Line2D([], [], color=color, marker=marker, linestyle="", label=law(temperature))
        for temperature, (color, marker, _) in looks.items()
    ]
    figure.legend(handles=handles, loc="upper center", ncols=2, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / height))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)


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
        names = options.methods or (QUICK if options.quick else METHODS)
        if code := measure_parts(parts, options.only, plans, names, file):
            return code
    text = page(parts)
    (folder / "drafters.md").write_text(text)
    draw(parts, picture)
    print(text)
    return int(any(is_wrong(part) for part in parts))


@interruptible
def measure_parts(
    parts: list[Part], only: str | None, plans: dict[str, Plan], names: Sequence[str], file: Path
) -> int:
    """Measure what is not among the parts, and keep each as soon as it is done."""
    done = {(part["kind"], part["config"]["temperature"]) for part in parts}
    every = [(kind, temperature) for kind in plans for temperature in TEMPERATURES]
    todo = [one for one in every if one not in done and only in {None, one[0]}]
    planned = jobs(todo, plans)
    minutes = [job.describe(len({"hf", "plain", *names})) for job in planned]
    print(f"about {sum(minutes):.0f} min in all", flush=True)
    for job in planned:
        part = job.run(names)
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
