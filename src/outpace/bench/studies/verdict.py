"""What a study says, in a sentence or two, and what has to be known before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..measured import BASELINE
from ..record import FEW, Record
from .outcome import Outcome, spoken
from .run import drafter_of
from .study import Study

EMBEDDED = "zoo:"
THEIRS = (
    "The systems this study is held against ran models of 2.8 to 8 billion parameters on GPUs. "
    "Here a small model runs on a processor: shapes of curves, orders of methods and acceptance on "
    "one's own texts can be compared; tokens a second, memory in gigabytes and the height of a "
    "speed-up cannot, since what a forward costs against everything around it is another matter."
)


def lead(study: Study, found: Sequence[Outcome]) -> list[str]:
    """Return what has to be known before a figure is read, the most important first."""
    told = []
    config = found[0].setting.config if found else study.settings()[0].config
    small = str(config["target"]).startswith(EMBEDDED)
    where = found[0].record["environment"] if found else {}
    if small or not where.get("gpu"):
        told.append(THEIRS)
    told += [text for text in (study.question, study.reference) if text]
    told.append(_how(config, study))
    return told


def _how(config: Any, study: Study) -> str:
    drafter = drafter_of(config) or "none"
    form = " Quick form: few and short texts, to see that it runs; its figures mean little." * (
        study.quick
    )
    return (
        f"Target {config['target']}, drafter {drafter}, {config['dtype']}. All methods of a "
        "setting wrote every prompt in turn, in one process, in an order shuffled by the seed. "
        "× hf is against transformers' own generate in the same run; brackets are 95 % bootstrap "
        f"intervals over prompts, with a question mark where they are too wide for the claim.{form}"
    )


def verdict(study: Study, found: Sequence[Outcome]) -> list[str]:
    """Return what to use: the fastest method, by how much, and whether the text is the same.

    Of a study in several parts, each of these has a sentence.
    """
    if not found:
        return ["Nothing is measured yet."]
    parts: dict[str, list[Record]] = {}
    for one in found:
        parts.setdefault(study.part(one.setting.part).title, []).append(one.record)
    told = {
        title: _of_one(records[0]) if len(records) == 1 else _of_many(records)
        for title, records in parts.items()
    }
    if len(told) == 1:
        return list(told.values())
    return [f"{title}: {sentence}" for title, sentence in told.items()]


def _of_many(records: Sequence[Record]) -> str:
    """Return what is fastest over several settings, of the methods that are in all of them."""
    speeds = [
        {one["method"]: one["speedup_vs_hf"]["value"] for one in record["results"] if one["exact"]}
        for record in records
    ]
    common = set.intersection(*map(set, speeds)) - {BASELINE}
    if not common:
        return "No method but the baseline is in all settings."
    means = {
        name: math.exp(sum(math.log(one[name]) for one in speeds) / len(speeds)) for name in common
    }
    name = max(sorted(means), key=means.__getitem__)
    ratios = [one[name] for one in speeds]
    wins = sum(max(one, key=one.__getitem__) == name for one in speeds)
    return (
        f"Use {spoken(name)}: {means[name]:.1f} × transformers' generate over {len(ratios)} "
        f"settings ({min(ratios):.1f} to {max(ratios):.1f} ×), the fastest in {wins} of them. "
        f"{_texts(records, name)}"
    )


def _of_one(record: Record) -> str:
    best = _best(record)
    if best is None:
        return "Only the baseline was measured."
    ratio, name = best["speedup_vs_hf"], spoken(best["method"])
    same = _texts([record], best["method"])
    if ratio["low"] is None or record["prompts"]["count"] < FEW:
        return (
            f"{name} was fastest at {ratio['value']:.1f} × transformers' generate; so few texts "
            f"make no sure figure. {same}"
        )
    interval = f"[{ratio['low']:.1f}, {ratio['high']:.1f}]"
    if ratio["low"] <= 1.0:
        return (
            f"Nothing is faster than transformers' generate here for sure: {name} came to "
            f"{ratio['value']:.1f} × {interval}."
        )
    return f"Use {name}: {ratio['value']:.1f} × {interval} on your prompts. {same}"


def _best(record: Record) -> dict[str, Any] | None:
    others = [one for one in record["results"] if one["method"] != BASELINE and one["exact"]]
    if not others:
        return None
    best: dict[str, Any] = max(others, key=lambda one: one["speedup_vs_hf"]["value"])
    return best


def _texts(records: Sequence[Record], name: str) -> str:
    """Return whether a method's text is still the same."""
    results = [one for record in records for one in record["results"] if one["method"] == name]
    compared = [one for one in results if one["identical"] is not None]
    if not compared:
        return "Its sampled text follows the same law."
    kinds = {each["kind"] for one in compared for each in one["differences"]}
    if not kinds:
        return "The text is the same, token for token."
    if kinds <= {"numerical"}:
        return "The text is the same but for near ties of the precision."
    if kinds <= {"numerical", "approximate"}:
        return "The text is approximate."
    return "The text differs, and not all differences are near ties: see the tables."
