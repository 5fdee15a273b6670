"""What cache policies came to: figures of each, in the form of a record of the benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..evicting import DENSE, WINDOWS, Stretch
from ..metrics import Interval, bootstrap

if TYPE_CHECKING:
    from .journal import Journal
    from .study import Setting

Figures = dict[str, Any]
Read = Mapping[int, Sequence[Stretch]]
"""What a policy made of each text that it has read, by its number."""


def record_of(
    journal: Journal, setting: Setting, environment: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what a setting came to, in the form of a record of the benchmark; None is nothing."""
    heads = journal.of("setting", id=setting.id)
    if not heads:
        return None
    kinds: list[str] = heads[0]["texts"]
    known: dict[str, dict[int, list[Stretch]]] = {}
    for line in journal.of("scored", setting=setting.id):
        own = known.setdefault(line["method"], {})
        own[line["text"]] = [Stretch(**one) for one in line["stretches"]]
    names = [one.name for one in setting.methods if known.get(one.name)]
    if not names:
        return None
    return {
        "environment": environment,
        "config": dict(setting.config),
        "results": [_result(name, known, kinds, setting) for name in names],
        "unusable": [
            {"method": line["method"], "why": line["why"]}
            for line in journal.of("unusable", setting=setting.id)
        ],
        "warnings": [],
        "drift": [],
        "texts": kinds,
    }


def _result(
    name: str, known: Mapping[str, Read], kinds: Sequence[str], setting: Setting
) -> Figures:
    """Return the figures of a policy, as a result of a record has them."""
    assert setting.evictions is not None
    others = {one: known[one] for one in (DENSE, WINDOWS) if one in known}
    own, breakdown = known[name], list[Figures]()

    def figures(kind: str | None = None, end: int | None = None) -> Figures:
        return _figures(
            own,
            others,
            lambda text, one: kind in {None, kinds[text]} and end in {None, one.end},
        )

    if stretch := setting.evictions.stretch:
        ends = sorted({one.end for found in own.values() for one in found})
        for end in ends:
            start = (end - 1) // stretch * stretch
            about = {"group": f"{start + 1:,}–{end:,}", "context": end}
            breakdown.append({**about, **figures(end=end)})
    elif len(set(kinds)) > 1:
        known_kinds = dict.fromkeys(kinds[text] for text in sorted(own))
        breakdown += [{"group": kind, **figures(kind)} for kind in known_kinds]
    for one in breakdown:
        one["members"] = []
    about = {"method": name, "settings": {}, "runs": [], "breakdown": breakdown}
    return {**about, **figures()}


def _figures(
    own: Read, others: Mapping[str, Read], chosen: Callable[[int, Stretch], bool]
) -> Figures:
    """Return the figures of a policy on chosen stretches of texts."""
    texts = {text: _sum(text, found, chosen) for text, found in own.items()}
    texts = {text: one for text, one in texts.items() if one.tokens}
    every = list(texts.values())
    found: Figures = {
        "policy_ppl": bootstrap([[one] for one in every], _ppl),
        "policy_accuracy": bootstrap([[one] for one in every], _right),
        "kept": sum(one.held for one in every) / sum(one.before for one in every),
        "held": sum(one.held for one in every) / sum(one.tokens for one in every),
        "scored": sum(one.tokens for one in every),
    }
    for name, column in ((DENSE, "policy_ratio"), (WINDOWS, "policy_windows")):
        read_by = others.get(name)
        if read_by is not None and texts.keys() <= read_by.keys():
            pairs = [[(one, _sum(t, read_by[t], chosen))] for t, one in texts.items()]
            found[column] = bootstrap(pairs, _ratio)
    return found


def _sum(text: int, found: Sequence[Stretch], chosen: Callable[[int, Stretch], bool]) -> Stretch:
    total = Stretch(0)
    for one in found:
        if chosen(text, one):
            total.end = one.end
            total.tokens += one.tokens
            total.nats += one.nats
            total.right += one.right
            total.held += one.held
            total.before += one.before
    return total


def _ppl(found: Sequence[Stretch]) -> float:
    return _exp(sum(one.nats for one in found) / sum(one.tokens for one in found))


def _right(found: Sequence[Stretch]) -> float:
    return sum(one.right for one in found) / sum(one.tokens for one in found)


def _ratio(pairs: Sequence[tuple[Stretch, Stretch]]) -> float:
    more = sum(one.nats - other.nats for one, other in pairs)
    return _exp(more / sum(one.tokens for one, _ in pairs))


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def told(setting: Setting, record: Mapping[str, Any]) -> str:
    """Return how texts were read, in words."""
    asked = setting.evictions
    assert asked is not None
    kinds = record["texts"]
    counts = ", ".join(f"{kinds.count(one)} of {one}" for one in dict.fromkeys(kinds))
    scored = max(one["scored"] for one in record["results"])
    return (
        f"Policies read {len(kinds)} passages ({counts}) of {asked.tokens:,} tokens each, without "
        f"a BOS of their own; tokens {asked.first + 1:,} to {asked.tokens:,} of each are scored, "
        f"{scored:,} in all, the same ones for every policy. A session read each passage from its "
        "beginning up to the next boundary, forgot, and read on: every token is foretold from what "
        "is held at that moment, none from a forward over the whole text. Tokens kept: those held "
        "over those read, averaged over scored tokens, layers and heads. PPL is weighted by token; "
        "brackets are over passages, those of × dense over passages in pairs."
    )


def nearest(records: Sequence[Mapping[str, Any]]) -> str:
    """Return which policy loses least, in a sentence."""
    results = [
        one
        for record in records
        for one in record["results"]
        if one["method"] not in {DENSE, WINDOWS} and one.get("policy_ratio") is not None
    ]
    if not results:
        return "No policy was compared with a dense cache."
    best = min(results, key=lambda one: one["policy_ratio"].value)
    ratio: Interval = best["policy_ratio"]
    brackets = "" if ratio.low is None else f" [{ratio.low:.3f}, {ratio.high:.3f}]"
    return (
        f"The least PPL is that of {best['method']}: {ratio.value:.3f} ×{brackets} that of a dense "
        f"cache, {best['kept']:.0%} of the tokens kept."
    )
