"""What is fastest, by how much, and whether the text is still the same: a sentence or two."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from .measured import BASELINE, PLAIN
from .metrics import Interval
from .names import in_precision
from .record import FEW, Record

_CHAIN = re.compile(r"draft@(\d+)")


def fastest(records: Sequence[Record]) -> str:
    """Return which method to use, by one measurement or by several.

    Args:
        records: of one setting or more; only methods that are in all of them are asked, and of
            these one whose text is approximate only where there are no others.
    """
    every = [{one["method"]: one for one in record["results"]} for record in records]
    common = set.intersection(*map(set, every)) - {BASELINE}
    exact = {name for name in common if all(one[name]["exact"] for one in every)}
    names = sorted(exact or common)
    if not names:
        where = "" if len(records) == 1 else " in all settings"
        return f"Only the baseline was measured{where}."
    speeds = [{name: Interval(**one[name]["speedup_vs_hf"]) for name in names} for one in every]
    means = {name: _mean([one[name].value for one in speeds]) for name in names}
    best = max(names, key=means.__getitem__)
    ratios = [one[best] for one in speeds]
    name, told, same = spoken(best), _told(means[best], ratios), sameness(records, best)
    if any(record["prompts"]["different"] < FEW for record in records):
        few = "so few texts make no sure figure"
        return f"The fastest in this run was {name} at {told}; {few}. {same}"
    unsure = sum(ratio.low is None or ratio.low <= 1.0 for ratio in ratios)
    if unsure == len(ratios):
        return (
            "Nothing is faster than transformers' generate here for sure; the fastest in this run "
            f"was {name} at {told}."
        )
    if len(records) == 1:
        return f"Use {name}: {told} on your prompts. {same}"
    wins = sum(max(one, key=lambda each: one[each].value) == best for one in speeds)
    doubt = f", and not for sure faster than the baseline in {unsure}" if unsure else ""
    return f"Use {name}: {told}, the fastest in {wins} of them{doubt}. {same}"


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def _told(mean: float, ratios: Sequence[Interval]) -> str:
    """Return a speed-up with what is known of how sure it is."""
    if len(ratios) > 1:
        values = [ratio.value for ratio in ratios]
        spread = f"{min(values):.2f} to {max(values):.2f} ×"
        return f"{mean:.2f} × transformers' generate over {len(ratios)} settings ({spread})"
    (ratio,) = ratios
    interval = "" if ratio.low is None else f" [{ratio.low:.2f}, {ratio.high:.2f}]"
    return f"{mean:.2f} ×{interval} transformers' generate"


def sameness(records: Sequence[Record], method: str) -> str:
    """Return whether the text of a method is the one it is compared with."""
    results = [one for record in records for one in record["results"] if one["method"] == method]
    if not all(one["exact"] for one in results):
        return "Its text is approximate."
    compared = [one for one in results if one["identical"] is not None]
    if not compared and in_precision(method)[1] is not None:
        return "Its target is in another precision than that of hf, and has a text of its own."
    if not compared:
        sampled = all(record["config"]["temperature"] for record in records)
        return "Its sampled text follows the same law." if sampled else "Its text was not compared."
    others = {one["compared_with"] for one in compared} - {BASELINE, PLAIN}
    other = f" as {', '.join(sorted(others))}" if others else ""
    kinds = {each["kind"] for one in compared for each in one["differences"]}
    if not kinds:
        return f"It writes the same text{other}, token for token."
    if kinds == {"numerical"}:
        dtypes = " and ".join(dict.fromkeys(str(record["config"]["dtype"]) for record in records))
        texts = sum(record["prompts"]["count"] for record in records)
        return (
            f"It writes the same text{other} but for near ties of {dtypes} in "
            f"{sum(one['differing_prompts'] for one in compared)} of {texts} texts."
        )
    return "Its text differs, and not all differences are near ties: see the table."


def spoken(method: str) -> str:
    """Return the name of a method as one would say it."""
    chain = _CHAIN.fullmatch(method)
    if chain:
        return f"chain K = {chain[1]}"
    return "plain decoding" if method == PLAIN else method
