"""The record of gpu.py as figures, each with what it is wanted to be, and as tables."""

from collections.abc import Callable
from typing import Any

from common import percent, shown
from outpace.bench.metrics import Interval, mean_and_deviation, speedup

FASTEST = ("compile", "graph", "eager")
"""Our runtimes, the one that should be fastest first."""


def bound_seconds(record: dict[str, Any]) -> float | None:
    """Return the least time a token of plain decoding can take: what it reads, at a copy's rate."""
    if not record.get("copy") or "bytes_per_token" not in record:
        return None
    return float(record["bytes_per_token"] / record["copy"]["bytes_per_second"])


def share_of_bound(record: dict[str, Any], name: str) -> float | None:
    """Return the bound over the time a token took a method after its first one."""
    bound = bound_seconds(record)
    samples = record.get("samples", {}).get(name)
    times = [one["tpot"] for one in samples or () if one["tpot"]]
    return bound * len(times) / sum(times) if bound and times else None


def times_as_fast(record: dict[str, Any], name: str, other: str) -> Interval | None:
    """Return the time of another method over that of a method, None where one was not measured."""
    samples = record.get("samples", {})
    if not (samples.get(name) and samples.get(other)):
        return None
    seconds = [[[one["seconds"]] for one in samples[which]] for which in (other, name)]
    return speedup(*seconds)


def fastest(record: dict[str, Any], method: str) -> str:
    """Return a method of ours in the runtime it was measured in that is fastest."""
    samples = record.get("samples", {})
    measured = [f"{runtime} {method}" for runtime in FASTEST if f"{runtime} {method}" in samples]
    return min(
        measured, key=lambda name: samples[name][0]["seconds"], default=f"{FASTEST[0]} {method}"
    )


def figures(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what was to be shown: in words, the value, the wish, and whether it is met."""
    plain, chain = fastest(record, "plain"), fastest(record, "draft@5")
    gate = fastest(record, "draft@gate")
    found = []

    def note(what: str, value: Any, shown_as: str, wish: str, met: Callable[[], bool]) -> None:
        known = value is not None
        text = shown_as if known else "not measured"
        found.append({"what": what, "value": text, "wanted": wish, "met": known and met()})

    for runtime, least in (("graph", 0.45), ("compile", 0.60)):
        share = share_of_bound(record, f"{runtime} plain")
        what = f"{runtime} plain, share of the bandwidth bound"
        note(what, share, percent(share), f"≥ {least:.0%}", lambda s=share, m=least: s >= m)
    for name, other, least in (
        (plain, "hf", 5.0),
        (chain, chain.replace("draft@5", "plain"), 1.5),
        (chain, "hf-assisted@5", 5.0),
        (gate, gate.replace("draft@gate", "plain"), 1.0),
    ):
        times = times_as_fast(record, name, other)
        text = "" if times is None else shown(times)
        met = times is not None and times.value >= least
        note(f"{name}, times as fast as {other}", times, text, f"≥ {least:g}", lambda m=met: m)
    kinds = {
        one["kind"] for differences in record.get("differences", {}).values() for one in differences
    }
    texts = record.get("differences") or None
    words = "differ: " + ", ".join(sorted(kinds)) if kinds else "identical"
    note("greedy texts", texts, words, "identical or numerical", lambda: kinds <= {"numerical"})
    noise = record.get("noise")
    note(
        "bits of the generator, CPU and device",
        noise,
        "equal" if noise and noise["bits_equal"] else "differ",
        "equal",
        lambda: bool(noise["bits_equal"]),
    )
    difference = noise["gumbel_max_difference"] if noise else None
    note(
        "the noise made of them, largest difference",
        noise,
        "equal" if noise and noise["gumbel_equal"] else f"{difference or 0:.1e}",
        "≤ 1e-5",
        lambda: difference <= 1e-5,
    )
    return found


def page(record: dict[str, Any]) -> str:
    """Return the record as tables."""
    where = record["environment"]["gpu"] if record["device"] != "cpu" else "the CPU"
    shape = record.get("target", f"synthetic {record['shape']}")
    lines = [
        f"{shape} on {where}, {record['dtype']}, {record['tokens']} new tokens after "
        f"{record['prompt_tokens']}, each method {record.get('repeats', 0)} times, synthetic "
        f"acceptance {record['acceptance']}.",
        "",
        "| what | measured | wanted | met |",
        "| --- | --- | --- | --- |",
    ]
    for one in figures(record):
        met = "yes" if one["met"] else "no"
        lines.append(f"| {one['what']} | {one['value']} | {one['wanted']} | {met} |")
    lines += ["", *_methods(record), ""]
    bound = bound_seconds(record)
    if bound is not None:
        rate, size = record["copy"]["bytes_per_second"] / 1e9, record["bytes_per_token"] / 1e9
        lines.append(
            f"The bound: {size:.3g} GB a token at {rate:.4g} GB/s are {1000 * bound:.3g} ms."
        )
    for name, part in record["parts"].items():
        why = part.get("error") or part.get("skipped")
        lines += [f"- {name} ({part['seconds']:.0f} s): {why}"] if why else []
    lines += [f"- {name}: {why}" for name, why in record.get("dropped", {}).items()]
    return "\n".join(lines) + "\n"


def _methods(record: dict[str, Any]) -> list[str]:
    lines = [
        "| method | tokens/s | TPOT ms | of the bound | × hf | acceptance | tokens a forward |",
        "|" + " --- |" * 7,
    ]
    for name, samples in record.get("samples", {}).items():
        if not samples:
            continue
        speeds = [one["tokens"] / one["seconds"] for one in samples]
        mean, deviation = mean_and_deviation(speeds)
        tpot, _ = mean_and_deviation([1000 * one["tpot"] for one in samples if one["tpot"]])
        drafted, forwards = (sum(one[what] for one in samples) for what in ("drafted", "forwards"))
        accepted, emitted = (sum(one[what] for one in samples) for what in ("accepted", "emitted"))
        times = times_as_fast(record, name, "hf")
        cells = (
            name,
            f"{mean:.1f} ± {deviation:.1f}",
            f"{tpot:.2f}",
            "–" if drafted else percent(share_of_bound(record, name)),
            "–" if times is None else shown(times),
            percent(accepted / drafted if drafted else None),
            f"{emitted / forwards:.2f}" if forwards else "–",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines
