"""A finished measurement as plain values: all that reports, replays and readers need."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

from .figures import diversity, figures
from .measured import BASELINE, Key, Measured, text_hash
from .metrics import LOOPING, Interval, repeated_8gram_share
from .sample import Sample

SCHEMA_VERSION = 2
STEADY = 1.15
"""A baseline that takes more times as long, or as short, at the end is worth a warning."""
FEW = 5
"""Fewer prompts than this make a bootstrap interval too narrow."""
Record = dict[str, Any]


def make_record(done: Measured, config: dict[str, Any], where: dict[str, Any]) -> Record:
    """Return the record of a run.

    Args:
        done: what came of it.
        config: the settings it was asked for with, to run it again.
        where: the environment.
    """
    shares = _shares(done)
    groups = _groups(done, shares)
    record: Record = {
        "schema_version": SCHEMA_VERSION,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": where,
        "config": config,
        "interrupted": done.interrupted,
        "failed": done.failed,
        "prompts": {
            "sha256": done.asked.sha256,
            "count": len({prompt for prompt, _ in done.keys}),
            "different": len({done.asked.texts[prompt] for prompt, _ in done.keys}),
            "cut": done.asked.cut,
            "texts": [
                {"workload": workload, "name": name, "repeated_8gram_share": shares.get(number)}
                for number, (workload, name) in enumerate(done.asked.texts)
            ],
        },
        "drift": [{"first": first, "last": last} for first, last in done.drift],
        "unpaired": done.unpaired,
        "unusable": [{"method": name, "why": why} for name, why in done.unusable.items()],
        "results": [_result(done, name, groups) for name in done.usable] if done.keys else [],
    }
    record["warnings"] = _warnings(done, record)
    return record


def _result(done: Measured, name: str, groups: dict[str, set[int]]) -> dict[str, Any]:
    samples, keys, facts = done.samples[name], done.keys, done.methods[name]
    differences = done.differences.get(name)
    if name == facts.reference and not differences:
        differences = None  # it is what the others are compared with
    return {
        "method": name,
        "exact": facts.exact,
        "settings": facts.settings,
        "axes": facts.axes,
        **figures(done, name, keys),
        **diversity(done, name, keys),
        "cold_seconds_a_token": facts.cold,
        "weight_bytes": facts.weights,
        "peak_memory_bytes": facts.memory[0] if facts.memory else None,
        "memory_growth_bytes": facts.memory[1] if facts.memory else None,
        "kv_bytes": max(samples[key].kv_bytes for key in keys),
        "drafter_kv_bytes": max(samples[key].drafter_kv_bytes for key in keys),
        "store_bytes": max(samples[key].store_bytes for key in keys),
        "compressions": sum(samples[key].compressions for key in keys) / len(keys),
        "evicted_tokens": sum(samples[key].evicted for key in keys) / len(keys),
        "identical": None if differences is None else not differences,
        "compared_with": None if differences is None else facts.reference,
        "differing_prompts": (
            None if differences is None else len({one.prompt for one in differences})
        ),
        "first_difference": dataclasses.asdict(differences[0]) if differences else None,
        "differences": [dataclasses.asdict(one) for one in differences or ()],
        "breakdown": [
            {
                "group": group,
                "prompts": len(members),
                "members": sorted(members),
                **figures(done, name, chosen),
                **diversity(done, name, chosen),
            }
            for group, members in groups.items()
            if (chosen := [key for key in keys if key[0] in members])
        ],
        "runs": [_run(key, samples[key]) for key in keys],
    }


def _run(key: Key, sample: Sample) -> dict[str, Any]:
    return {
        "prompt": key[0],
        "repeat": key[1],
        "new_tokens": len(sample.tokens),
        "text": text_hash(sample.tokens),
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


def _shares(done: Measured) -> dict[int, float]:
    """Return how much the reference text of each prompt repeats itself."""
    texts = done.samples[done.reference]
    return {key[0]: repeated_8gram_share(texts[key].tokens) for key in done.keys}


def _groups(done: Measured, shares: dict[int, float]) -> dict[str, set[int]]:
    """Return the parts that are also reported apart: workloads, and texts that go in circles."""
    groups: dict[str, set[int]] = {}
    for number, _ in done.keys:
        groups.setdefault(done.asked.texts[number][0], set()).add(number)
    if len(groups) == 1:
        groups = {}
    looping = {number for number, share in shares.items() if share > LOOPING}
    if looping:
        groups["repeating"] = looping
        groups["not repeating"] = set(shares) - looping
    return groups


def _warnings(done: Measured, record: Record) -> list[dict[str, str]]:
    """Return what limits the figures, each with its kind and a sentence."""
    found: list[tuple[str, str]] = []
    planned = done.repeats * len(done.asked.texts)
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
    if done.asked.note is not None:
        found.append(("continued", done.asked.note))
    found += [("unusable", f"{name}: no figures: {why}") for name, why in done.unusable.items()]
    found += _drifted(done)
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
    different = record["prompts"]["different"]
    if different < FEW:
        why = f"{different} prompts are too few for intervals to be trusted: give {FEW} or more"
        found.append(("few", why))
    for result in record["results"]:
        found += _doubts(result)
    return [{"kind": kind, "text": text} for kind, text in found]


def _drifted(done: Measured) -> list[tuple[str, str]]:
    """Return the warnings about a machine that was not the same from beginning to end."""
    found = []
    for first, last in done.drift:
        if not 1 / STEADY <= last / first <= STEADY:
            found.append(
                (
                    "drift",
                    f"the baseline took {last / first:.2f} × as long at the end as at the "
                    "beginning: compare ratios, not tokens/s",
                )
            )
    if done.unpaired:
        found.append(("unpaired", f"{done.unpaired} texts stand next to a baseline of another run"))
    return found


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
