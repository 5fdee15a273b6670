"""A finished measurement as plain values: all that reports, replays and readers need."""

import dataclasses
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from .methods import Method, Sample
from .metrics import LOOPING, Interval, mean_and_deviation, repeated_8gram_share, speedup
from .runner import BASELINE, Bench, Key, Measured
from .workloads import prompts_hash

SCHEMA_VERSION = 1
FEW = 5
"""Fewer prompts than this make a bootstrap interval too narrow."""
Record = dict[str, Any]


def make_record(
    bench: Bench, done: Measured, config: dict[str, Any], where: dict[str, Any], *, cut: int = 0
) -> Record:
    """Return the record of a run.

    Args:
        bench: what was run.
        done: what came of it.
        config: the settings it was asked for with, to run it again.
        where: the environment.
        cut: how many prompts were too long for the models.
    """
    shares = _shares(bench, done)
    groups = _groups(bench, done, shares)
    results = [_result(bench, done, method, groups) for method in bench.methods]
    keys = done.keys
    record: Record = {
        "schema_version": SCHEMA_VERSION,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": where,
        "config": config,
        "interrupted": done.interrupted,
        "failed": done.failed,
        "prompts": {
            "sha256": prompts_hash(bench.prompts),
            "count": len({prompt for prompt, _ in keys}),
            "cut": cut,
            "texts": [
                {
                    "workload": prompt.workload,
                    "name": prompt.name,
                    "repeated_8gram_share": shares.get(number),
                }
                for number, prompt in enumerate(bench.prompts)
            ],
        },
        "results": results,
    }
    record["warnings"] = _warnings(bench, done, record)
    return record


def _result(
    bench: Bench, done: Measured, method: Method, groups: dict[str, set[int]]
) -> dict[str, Any]:
    samples = done.samples[method.name]
    keys = done.keys
    memory = done.memory.get(method.name)
    differences = done.differences.get(method.name)
    reference = bench.reference_of(method)
    if method.name == reference and not differences:
        differences = None  # it is what the others are compared with
    return {
        "method": method.name,
        "exact": method.exact,
        "settings": method.settings,
        **_figures(done, method.name, keys),
        "peak_memory_bytes": memory[0] if memory else None,
        "memory_growth_bytes": memory[1] if memory else None,
        "kv_bytes": max(samples[key].kv_bytes for key in keys),
        "store_bytes": max(samples[key].store_bytes for key in keys),
        "identical": None if differences is None else not differences,
        "compared_with": None if differences is None else reference,
        "differing_prompts": (
            None if differences is None else len({one.prompt for one in differences})
        ),
        "first_difference": dataclasses.asdict(differences[0]) if differences else None,
        "differences": [dataclasses.asdict(one) for one in differences or ()],
        "repeated_8gram_share": statistics.fmean(
            repeated_8gram_share(samples[key].tokens) for key in keys
        ),
        "breakdown": [
            {"group": name, "prompts": len(members), **_figures(done, method.name, chosen)}
            for name, members in groups.items()
            if (chosen := [key for key in keys if key[0] in members])
        ],
        "runs": [_run(key, samples[key]) for key in keys],
    }


def _figures(done: Measured, name: str, keys: Sequence[Key]) -> dict[str, Any]:
    """Return the figures of a method over some of the texts."""
    samples = [done.samples[name][key] for key in keys]
    speeds = [sample.tokens_per_second for sample in samples]
    mean, deviation = mean_and_deviation(speeds)
    drafted = sum(sample.drafted for sample in samples)
    forwards = sum(sample.forwards for sample in samples)
    later = [sample.tpot for sample in samples if sample.tpot is not None]
    ratio = speedup(_by_prompt(done, BASELINE, keys), _by_prompt(done, name, keys))
    return {
        "tokens_per_second": {"mean": mean, "std": deviation, "samples": speeds},
        "speedup_vs_hf": dataclasses.asdict(ratio),
        "ttft_ms": 1000 * statistics.fmean(sample.ttft for sample in samples),
        "tpot_ms": 1000 * statistics.fmean(later) if later else None,
        "acceptance_rate": sum(s.accepted for s in samples) / drafted if drafted else None,
        "mean_acceptance_length": (
            sum(sample.emitted for sample in samples) / forwards if forwards else None
        ),
        "draft_share": _draft_share(samples),
    }


def _draft_share(samples: Sequence[Sample]) -> float | None:
    """Return the share of the rounds' time that went into drafting; None where nothing was."""
    drafting = sum(sample.drafting or 0.0 for sample in samples)
    verifying = sum(sample.verifying or 0.0 for sample in samples)
    drafted = any(sample.drafted for sample in samples)
    return drafting / (drafting + verifying) if drafted and drafting else None


def _by_prompt(done: Measured, name: str, keys: Sequence[Key]) -> list[list[float]]:
    seconds: dict[int, list[float]] = {}
    for key in keys:
        seconds.setdefault(key[0], []).append(done.samples[name][key].seconds)
    return list(seconds.values())


def _run(key: Key, sample: Sample) -> dict[str, Any]:
    return {
        "prompt": key[0],
        "repeat": key[1],
        "new_tokens": len(sample.tokens),
        "seconds": sample.seconds,
        "ttft_ms": 1000 * sample.ttft,
        "tpot_ms": None if sample.tpot is None else 1000 * sample.tpot,
        "forwards": sample.forwards,
        "emitted": sample.emitted,
        "drafted": sample.drafted,
        "accepted": sample.accepted,
        "drafter_forwards": sample.drafter_forwards,
        "kv_bytes": sample.kv_bytes,
        "store_bytes": sample.store_bytes,
        "drafting": sample.drafting,
        "verifying": sample.verifying,
    }


def _shares(bench: Bench, done: Measured) -> dict[int, float]:
    """Return how much the reference text of each prompt repeats itself."""
    texts = done.samples[bench.reference]
    return {key[0]: repeated_8gram_share(texts[key].tokens) for key in done.keys}


def _groups(bench: Bench, done: Measured, shares: dict[int, float]) -> dict[str, set[int]]:
    """Return the parts that are also reported apart: workloads, and texts that go in circles."""
    groups: dict[str, set[int]] = {}
    for number, _ in done.keys:
        groups.setdefault(bench.prompts[number].workload, set()).add(number)
    if len(groups) == 1:
        groups = {}
    looping = {number for number, share in shares.items() if share > LOOPING}
    if looping:
        groups["repeating"] = looping
        groups["not repeating"] = set(shares) - looping
    return groups


def _warnings(bench: Bench, done: Measured, record: Record) -> list[dict[str, str]]:
    """Return what limits the figures, each with its kind and a sentence."""
    found: list[tuple[str, str]] = []
    planned = bench.repeats * len(bench.prompts)
    if len(done.keys) < planned:
        found.append(
            ("incomplete", f"{len(done.keys)} of {planned} texts a method are done: {_why(done)}")
        )
    elif not done.judged:
        found.append(
            ("incomplete", f"not all differences of the texts were looked into: {_why(done)}")
        )
    if record["prompts"]["cut"]:
        found.append(
            (
                "cut",
                f"{record['prompts']['cut']} prompts are too long for the models: their end is "
                "used",
            )
        )
    shares = [text["repeated_8gram_share"] for text in record["prompts"]["texts"]]
    looping = sum(share is not None and share > LOOPING for share in shares)
    if looping:
        found.append(
            (
                "repeating",
                f"{looping} of {record['prompts']['count']} texts repeat themselves (more than "
                f"{LOOPING:.0%} of their 8-grams), which flatters every drafter",
            )
        )
    if record["prompts"]["count"] < FEW:
        found.append(
            (
                "few",
                f"{record['prompts']['count']} prompts are too few for intervals to be trusted: "
                f"give {FEW} or more",
            )
        )
    for result in record["results"]:
        found += _doubts(result)
    return [{"kind": kind, "text": text} for kind, text in found]


def _why(done: Measured) -> str:
    return f"failed ({done.failed})" if done.failed else "interrupted"


def _doubts(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the warnings about one method."""
    found = []
    name, ratio = result["method"], Interval(**result["speedup_vs_hf"])
    if name != BASELINE and ratio.low is not None and ratio.is_unsure:
        found.append(
            (
                "interval",
                f"{name}: the interval {ratio.low:.2f} to {ratio.high:.2f} is wider than the "
                "difference from hf: give more prompts or --repeats",
            )
        )
    for kind, why in (
        ("bug", "and no near tie explains it"),
        ("unclear", "and did not come out the same again"),
    ):
        prompts = {one["prompt"] for one in result["differences"] if one["kind"] == kind}
        if prompts:
            found.append(
                (
                    "text",
                    f"{name}: {len(prompts)} texts differ from {result['compared_with']}, {why}",
                )
            )
    return found
