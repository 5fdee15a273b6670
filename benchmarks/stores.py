"""What the drafters without a model hold and cost: python benchmarks/stores.py [--quick]

Writes docs/results/stores.{md,json}. A million tokens through the stores, as one text and as many,
each in a process of its own: do the stores stay as large as they are said to be, and does the
process? Then the time of a draft at histories of a thousand to a million tokens, in turn. The
drafters are driven directly, without a model.
"""

import argparse
import gc
import json
import multiprocessing
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from outpace.bench import environment
from outpace.drafters import Drafter
from outpace.drafters.lookahead import LookaheadDrafter
from outpace.drafters.ngram import NgramDrafter
from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.drafters.recycling import RecyclingDrafter
from outpace.drafters.suffix import SuffixDrafter
from outpace.types import Budget, Context, Kind, Round, Times, TokenTree, Verdict

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
VOCABULARY = 8_192
TEXT = 500
"""Tokens of each of many texts."""
ROUND = 5
"""Tokens a round writes."""
BUDGET = Budget(63, 63)
HISTORIES = (1_000, 10_000, 100_000, 1_000_000)
CHECKPOINTS = 10

MEMORY: dict[str, tuple[Callable[[], Drafter], bool]] = {
    "suffix, many texts kept": (lambda: SuffixDrafter(keep=True), False),
    "suffix, one text": (SuffixDrafter, True),
    "ngram, many texts kept": (lambda: NgramDrafter(keep=True), False),
    "ngram, one text": (NgramDrafter, True),
    "prompt-lookup, one text": (PromptLookupDrafter, True),
    "lookahead, one text": (LookaheadDrafter, True),
}
"""What is driven, and whether all tokens are one text."""


class Target:
    """As much of a target as these drafters ask for."""

    vocabulary = VOCABULARY


def tokens(seed: int, phrases: int) -> Iterator[int]:
    """Yield phrases that come again and tokens that come by chance, without end.

    The phrases are the same for every seed.
    """
    rng = random.Random(phrases)
    ids = list(range(VOCABULARY))  # one object a token, so that a text costs its references
    stock = [[rng.choice(ids) for _ in range(rng.randrange(3, 30))] for _ in range(phrases)]
    rng = random.Random(seed)
    while True:
        yield from rng.choice(stock) if rng.random() < 0.6 else [rng.choice(ids)]


def write(drafter: Drafter, context: Context, new: list[int], end: str | None = None) -> None:
    """Have a drafter see a round that wrote ``new`` without a draft."""
    context.extend(new)
    # what a target held for best: the token written, and some beside it
    rows = torch.tensor(new)[:, None]
    extras = {}
    for name in drafter.wants:
        what, _, most = name.partition(":")
        best = (rows + torch.arange(int(most)) * 97) % VOCABULARY
        extras[name] = best[:1] if what == "topk-all" else best
    zero = Times(0.0, 0.0, 0.0, 0.0)
    kinds: list[Kind] = ["plain"] * len(new)
    tree = TokenTree.chain(context.tokens[-len(new) - 1])
    verdict = Verdict([], new, [])
    drafter.observe(
        context, Round(1, tree, verdict, tuple(new), tuple(kinds), (), zero, end, extras)
    )


def resident() -> int:
    """Return the bytes of memory this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def held(name: str, total: int) -> list[dict[str, Any]]:
    """Put so many tokens through a drafter; return what it and the process held on the way."""
    make, one = MEMORY[name]
    drafter, source = make(), tokens(seed=1, phrases=2_000)
    drafter.attach(Target())  # type: ignore[arg-type]
    before, points = resident(), []
    context, began, drafted, most = Context([next(source)]), time.perf_counter(), 0, 0
    drafter.start(context)
    for seen in range(ROUND, total + 1, ROUND):
        full = not one and len(context) >= TEXT
        write(drafter, context, [next(source) for _ in range(ROUND)], "length" if full else None)
        if seen % (20 * ROUND) == 0:
            drafted += len(drafter.propose(context, BUDGET, None)) - 1  # type: ignore[arg-type]
            most = max(most, drafter.store_bytes)
        if full:
            context = Context([next(source)])
            drafter.start(context)
        if seen % (total // CHECKPOINTS) == 0:
            points.append(
                {
                    "tokens": seen,
                    "store_bytes": most,
                    "grown_bytes": resident() - before,
                    "seconds": time.perf_counter() - began,
                    "drafted": drafted,
                }
            )
            most = 0
    return points


class Timed:
    """A drafter at the end of a history, or with one in its store."""

    def __init__(self, make: Callable[[], Drafter], history: int, *, stored: bool) -> None:
        self.drafter = make()
        self.drafter.attach(Target())  # type: ignore[arg-type]
        # so few phrases that a thousand tokens have them all: the drafts are alike everywhere
        self.source, before = (tokens(seed, phrases=12) for seed in (2, 3))
        text = [next(before) for _ in range(history)]
        for at in range(0, history, TEXT) if stored else ():
            context = Context([text[at]])
            self.drafter.start(context)
            write(self.drafter, context, text[at + 1 : at + TEXT], "length")
        self.context = Context(text[-100:] if stored else text[:1])
        self.drafter.start(self.context)
        for at in range(1, 1 if stored else history, 1000):
            write(self.drafter, self.context, text[at : at + 1000])
        self._catch_up()
        self.seconds: list[float] = []
        self.drafted: list[int] = []
        self.work: list[int] = []

    def once(self) -> None:
        """Time a draft, then write a token."""
        before, began = self._work(), time.perf_counter()
        tree = self.drafter.propose(self.context, BUDGET, None)  # type: ignore[arg-type]
        seconds = time.perf_counter() - began
        if len(tree) > 1:
            self.seconds.append(seconds)
            self.drafted.append(len(tree) - 1)
            self.work.append(self._work() - before)
        write(self.drafter, self.context, [next(self.source)])
        self._catch_up()

    def _catch_up(self) -> None:
        """Have what was written read now, not within the next draft."""
        self.drafter.propose(self.context, Budget(0, 0), None)  # type: ignore[arg-type]

    def _work(self) -> int:
        """Return the steps its stores have counted, 0 where nothing is counted."""
        if isinstance(self.drafter, NgramDrafter):
            return self.drafter._texts[self.context].store.work
        if isinstance(self.drafter, SuffixDrafter):
            text = self.drafter._texts[self.context]
            sources = (text.young, text.old, *self.drafter.store.generations)
            return sum(source.work for source in sources if source is not None)
        return 0

    def figures(self) -> dict[str, float]:
        """Return medians over the drafts, and counted steps for each draft token."""
        each = [1e6 * s / n for s, n in zip(self.seconds, self.drafted, strict=True)]
        return {
            "drafts": len(each),
            "draft_tokens": statistics.fmean(self.drafted),
            "us_a_draft": 1e6 * statistics.median(self.seconds),
            "us_a_draft_token": statistics.median(each),
            "steps_a_draft_token": sum(self.work) / sum(self.drafted),
        }


TIMES: dict[str, tuple[Callable[[], Drafter], bool]] = {
    "suffix, in the text": (SuffixDrafter, False),
    "suffix, in the kept outputs": (lambda: SuffixDrafter(keep=True), True),
    "ngram": (NgramDrafter, False),
    "prompt-lookup": (PromptLookupDrafter, False),
    "recycling": (RecyclingDrafter, False),
    "lookahead": (LookaheadDrafter, False),
}
"""What is timed, and whether the history is in its store instead of the text."""


def timed(name: str, drafts: int) -> dict[int, dict[str, float]]:
    """Return what a draft takes at every history, measured in turn."""
    make, stored = TIMES[name]
    cases = {history: Timed(make, history, stored=stored) for history in HISTORIES}
    gc.collect()
    gc.disable()
    for _ in range(drafts):
        for case in cases.values():
            case.once()
    gc.enable()
    return {history: case.figures() for history, case in cases.items()}


def page(record: dict[str, Any]) -> str:
    """Return the record as tables."""
    total = record["tokens"]
    marks = [f"{point['tokens']:,}" for point in next(iter(record["memory"].values()))]
    lines = ["## Memory", "", f"Megabytes after so many of {total:,} tokens: stores / process."]
    lines += ["", f"| drafter | {' | '.join(marks)} |", "|" + " --- |" * (len(marks) + 1)]
    for name, points in record["memory"].items():
        cells = [f"{p['store_bytes'] / 1e6:.0f} / {p['grown_bytes'] / 1e6:.0f}" for p in points]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Many texts are of {TEXT} tokens each. Stores: the highest `store_bytes` since the "
        "column before. Process: resident memory beyond that before the first token, one text's "
        "own list (8 bytes a token) included; each drafter in a process of its own. Capacities and "
        "windows are the defaults.",
        "",
        "## Time of a draft",
        "",
        "| drafter | history | draft tokens a draft | µs a draft | µs a draft token | "
        "× 1,000 tokens | steps a draft token |",
        "|" + " --- |" * 7,
    ]
    for name, rows in record["times"].items():
        first = rows[str(HISTORIES[0])]["us_a_draft_token"]
        for history, one in rows.items():
            steps = f"{one['steps_a_draft_token']:.1f}" if one["steps_a_draft_token"] else "–"
            lines.append(
                f"| {name} | {int(history):,} | {one['draft_tokens']:.1f} | "
                f"{one['us_a_draft']:.0f} | {one['us_a_draft_token']:.1f} | "
                f"{one['us_a_draft_token'] / first:.2f} | {steps} |"
            )
    where = record["environment"]
    lines += [
        "",
        f"At most {BUDGET.nodes} draft tokens; medians over up to {record['drafts']} drafts at "
        "each history, in turn; recurring phrases and noise. Steps: what the stores count of a "
        "draft (links, edges, contexts and counts looked at). "
        "The suffix drafter asks two generations once a text is longer than half the window, or "
        "the kept outputs than half the capacity. "
        f"{where['cpu']['name']}, {where['threads']} threads, torch {where['versions']['torch']}. "
        "Made by `python benchmarks/stores.py`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the tokens and drafts")
    quick = parser.parse_args().quick
    total, drafts = (100_000, 40) if quick else (1_000_000, 400)
    torch.set_num_threads(1)
    memory = {}
    for name in MEMORY:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            memory[name] = pool.apply(held, (name, total))
        print(name, memory[name][-1], file=sys.stderr, flush=True)
    times = {name: timed(name, drafts) for name in TIMES}
    record = {
        "environment": environment(),
        "tokens": total,
        "drafts": drafts,
        "memory": memory,
        "times": {name: {str(h): row for h, row in rows.items()} for name, rows in times.items()},
    }
    text = page(record)
    print(text)
    if not quick:
        (RESULTS / "stores.md").write_text(text)
        (RESULTS / "stores.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
