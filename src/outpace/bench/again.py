"""A measurement held against the same one made before: the same texts, the same ratios?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidArgument
from .measured import BASELINE
from .record import SCHEMA_VERSION, Record

COMPARED = ("method", "× hf then", "× hf now", "now / then", "intervals", "same texts")
"""The head of the table."""
_NEEDED = ("config", "environment", "prompts", "results")


def read_record(path: Path) -> Record:
    """Return a record that ``outpace bench --json`` wrote.

    Raises:
        InvalidArgument: there is none, or it cannot be read.
    """
    try:
        record = json.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidArgument(
            f"record {path}: {error.strerror}: give a file that outpace bench --json wrote"
        ) from error
    except ValueError as error:
        record = error
    number = record.get("schema_version") if isinstance(record, dict) else None
    if number is None or any(key not in record for key in _NEEDED):
        raise InvalidArgument(
            f"record {path} is none of a benchmark: give a file that outpace bench --json wrote"
        )
    if number > SCHEMA_VERSION:
        raise InvalidArgument(
            f"record {path} is of a later version ({number}, known is {SCHEMA_VERSION}): install a "
            "newer Outpace"
        )
    return dict(record)


@dataclass(frozen=True, slots=True)
class Again:
    """Two records of the same measurement.

    Attributes:
        before: the older one.
        after: the newer one.
    """

    before: Record
    after: Record

    @property
    def same_prompts(self) -> bool:
        """Whether both continued the same texts."""
        return bool(self.before["prompts"]["sha256"] == self.after["prompts"]["sha256"])

    @property
    def gone(self) -> list[str]:
        """The methods that had figures before and have none now."""
        now = {one["method"] for one in self.after["results"]}
        return [one["method"] for one in self.before["results"] if one["method"] not in now]

    @property
    def untested(self) -> list[str]:
        """The methods whose ratios cannot be compared, for want of an interval."""
        return [row[0] for row in self.rows() if row[4] == "–" and row[0] != BASELINE]

    def rows(self) -> list[tuple[str, ...]]:
        """Return the cells under :data:`COMPARED`, one row a method that both have."""
        old = {one["method"]: one for one in self.before["results"]}
        return [
            self._row(old[one["method"]], one)
            for one in self.after["results"]
            if one["method"] in old
        ]

    def _row(self, then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
        a, b = then["speedup_vs_hf"], now["speedup_vs_hf"]
        return (
            str(now["method"]),
            _shown(a),
            _shown(b),
            f"{b['value'] / a['value']:.2f}",
            _overlap(a, b),
            _texts(then, now),
        )

    def sentences(self) -> list[str]:
        """Return what came out otherwise, and what was otherwise to begin with."""
        told = []
        if not self.same_prompts:
            told.append("the prompts are not the same: neither texts nor times can be compared")
        if gone := self.gone:
            told.append(f"methods without figures now: {', '.join(gone)}")
        if untested := self.untested:
            told.append(f"ratios without an interval to compare: {', '.join(untested)}")
        apart = [row[0] for row in self.rows() if row[4] == "apart"]
        if apart:
            told.append(f"ratios whose intervals do not even meet: {', '.join(apart)}")
        changed = [row[0] for row in self.rows() if row[5] not in {"all", "–"}]
        if changed:
            told.append(f"texts that came out otherwise: {', '.join(changed)}")
        old, new = _flat(self.before["environment"]), _flat(self.after["environment"])
        told += [
            f"{key}: {old.get(key)} then, {new.get(key)} now"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
        return told

    def verdict(self) -> str:
        """Return whether the measurement stands."""
        if not self.same_prompts:
            return "Nothing can be said: the prompts are others than before."
        rows = self.rows()
        apart = sum(row[4] == "apart" for row in rows)
        texts = sum(row[5] not in {"all", "–"} for row in rows)
        if apart or texts or self.gone:
            return (
                f"Of {len(rows) + len(self.gone)} methods {apart} have another ratio than before, "
                f"beyond both intervals, {texts} other texts, and {len(self.gone)} no figures any "
                "more."
            )
        if self.untested:
            return (
                f"Nothing speaks against it, but nothing can be said of the ratios of "
                f"{len(self.untested)} of {len(rows)} methods: too few prompts for an interval."
            )
        return f"It stands: {len(rows)} methods, the same ratios within their intervals."


def _shown(ratio: Mapping[str, Any]) -> str:
    if ratio["low"] is None:
        return f"{ratio['value']:.2f} (–)"
    return f"{ratio['value']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})"


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    if one["low"] is None or other["low"] is None:
        return "–"
    return "meet" if one["low"] <= other["high"] and other["low"] <= one["high"] else "apart"


def _texts(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return how many texts are the same; records of the first version do not tell."""
    old = {(run["prompt"], run["repeat"]): run.get("text") for run in then["runs"]}
    both = [
        (old[key], run["text"])
        for run in now["runs"]
        if old.get(key := (run["prompt"], run["repeat"])) is not None
    ]
    if not both:
        return "–"
    same = sum(a == b for a, b in both)
    return "all" if same == len(both) else f"{same} of {len(both)}"


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key} ")
        else:
            found[f"{before}{key}"] = value
    return found
