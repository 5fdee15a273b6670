"""What came of benchmarks/drafters.py, as a page of tables and a picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import SETS, law, machine, percent, ratio, result, shown
from outpace.bench.metrics import LOOPING, Interval

TITLES = {
    "pair": "the embedded pair",
    "more": "the embedded pair on more texts",
    "wide": "163 M parameters",
}
"""The targets."""
CHAINS, COMBINED = "draft@", ("cascade", "bandit")
Part = dict[str, Any]
"""A record, its kind of target and how long it took."""


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
    title = TITLES[part["kind"]]
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

    parts = [part for part in parts if part["kind"] != "more"]
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
            panel.set_title(f"{workload}, {TITLES[kind]}", fontsize=10)
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
