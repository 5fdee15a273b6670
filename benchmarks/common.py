"""What the benchmarks here share: a run of methods in turn, and figures of its record."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from outpace.bench import (
    Bench,
    BenchPrompt,
    Models,
    Record,
    Writing,
    environment,
    make_record,
)
from outpace.bench.methods import Method
from outpace.bench.metrics import Interval, speedup
from outpace.cli.progress import progress

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULTS = DOCS / "results"
SETS = ("pg19", "wikitext", "humaneval", "spec-bench")
TEMPERATURES = (0.0, 0.8)


def measure(
    models: Models,
    methods: Sequence[Method],
    prompts: Sequence[BenchPrompt],
    writing: Writing,
    *,
    warmup: int = 3,
    cut: int = 0,
    **config: Any,
) -> Record:
    """Run methods in turn on the same prompts, with a bar; ``config`` goes into the record."""
    bench = Bench(models, methods, prompts, writing, repeats=1, warmup=warmup, cut=cut)
    with progress(bench.steps) as notify:
        done = bench.run(notify)
    config |= {
        "dtype": models.target.precision,
        "temperature": writing.temperature,
        "max_new_tokens": writing.max_new_tokens,
        "methods": [method.name for method in methods],
    }
    return make_record(done, config, environment())


def result(record: Record, name: str) -> dict[str, Any]:
    """Return what one method did."""
    return next(one for one in record["results"] if one["method"] == name)


def ratio(
    one: dict[str, Any],
    other: dict[str, Any],
    what: str = "seconds",
    prompts: Collection[int] | None = None,
) -> Interval:
    """Return how many times less of it (seconds, forwards) the other method took.

    Args:
        one: the result of a method.
        other: of another, on the same prompts.
        what: a figure of their runs.
        prompts: the numbers of those to look at; None is all.
    """
    each = [
        [[float(run[what])] for run in of["runs"] if prompts is None or run["prompt"] in prompts]
        for of in (one, other)
    ]
    return speedup(*each)


def shown(interval: Interval) -> str:
    """Return an interval as text."""
    if interval.low is None or interval.high is None:
        return f"{interval.value:.2f} (–)"
    return f"{interval.value:.2f} ({interval.low:.2f}–{interval.high:.2f})"


def percent(share: float | None) -> str:
    """Return a share as text."""
    return "–" if share is None else f"{share:.0%}"


def law(temperature: float) -> str:
    """Return how texts are chosen."""
    return f"temperature {temperature}" if temperature else "greedy"


def machine(record: Record) -> str:
    """Return where a record was made."""
    where = record["environment"]
    versions = where["versions"]
    return (
        f"{where['cpu']['name']}, {where['threads']} threads, torch {versions['torch']}, "
        f"transformers {versions['transformers']}"
    )
