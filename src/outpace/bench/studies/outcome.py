"""What a study came to: the record of each setting, and rows to make tables and pictures of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...calls import split
from ..divergence import Quality
from ..measured import BASELINE, PLAIN
from ..metrics import Interval
from ..prices import mean_prices
from ..record import Record, make_record
from ..theory import Parts, of_leviathan, of_parts, of_reference
from .eviction_figures import record_of
from .journal import Journal
from .precisions import precision_of
from .study import Setting, Study

CONTEXT = "context"
"""The axis of a part whose texts have figures stretch by stretch: tokens read at the end of one."""


@dataclass(frozen=True, slots=True)
class Row:
    """A method in a setting: what tables have rows of and pictures points.

    Attributes:
        setting: which one.
        method: its name.
        result: its figures, as in a record; None where there are none.
        why: why there are none.
        record: of the whole setting.
        group: the part of the texts these figures are of; None is all.
        costs: of forwards and drafts, by model, where they were measured.
        alone: what it needs in a process of its own, where that was measured.
        quality: what its target's precision makes of the texts all of them read, likewise.
        context: the end of the stretch of texts these figures are of; None is whole texts.
    """

    setting: Setting
    method: str
    result: Mapping[str, Any] | None
    why: str
    record: Record
    group: str | None = None
    costs: Mapping[str, Any] | None = None
    alone: Mapping[str, Any] | None = None
    quality: Mapping[str, Any] | None = None
    context: int | None = None

    @property
    def axes(self) -> dict[str, Any]:
        """What the study varied: options, and what stands in braces in the method's name."""
        own = {one.name: one.axes for one in self.setting.methods}.get(self.method, {})
        place = {} if self.context is None else {CONTEXT: self.context}
        return {**self.setting.axes, **own, **place}

    @property
    def template(self) -> str:
        """The name of the method with its braces."""
        known = {one.name: one.template for one in self.setting.methods}
        return known.get(self.method, "") or self.method

    def is_of(self, methods: Sequence[str]) -> bool:
        """Return whether it is of one of these methods, braces and all; of any where none is."""
        return not methods or self.template in methods or self.method in methods

    def figure(self, name: str) -> Any:
        """Return a figure, or None where there is none.

        ``speedup`` and ``speedup_vs_plain`` are intervals; see :mod:`outpace.bench.figures` for
        those of records, and ``predicted_…`` in :mod:`outpace.bench.theory`.
        """
        if self.result is None:
            return None
        if name in _MADE:
            return _MADE[name](self)
        return self.result.get(name)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a setting came to.

    Attributes:
        setting: which one.
        record: of it, as the benchmark has it.
        costs: of forwards and drafts, by model, where they were measured.
        alone: by method, what it needs in a process of its own.
        quality: by precision, what it makes of the texts all of them read.
    """

    setting: Setting
    record: Record
    costs: Mapping[str, Any] | None = None
    alone: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    quality: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def row(
        self,
        method: str,
        result: Any,
        why: str,
        group: str | None = None,
        context: int | None = None,
    ) -> Row:
        """Return the row of a method."""
        precision = self.quality.get(precision_of(method, self.setting.config))
        own = self.alone.get(method)
        known = (self.record, group, self.costs, own, precision)
        return Row(self.setting, method, result, why, *known, context)


def outcomes(study: Study, journal: Journal) -> list[Outcome]:
    """Return what every setting that has figures came to, in order."""
    where = {line["number"]: line["environment"] for line in journal.of("run")}
    found = []
    for setting in study.settings():
        if setting.evictions is not None:
            heads = journal.of("setting", id=setting.id)
            read = record_of(journal, setting, where[heads[0]["run"]]) if heads else None
            found += [] if read is None else [Outcome(setting, read)]
            continue
        done = journal.measured(setting.id, [one.name for one in setting.methods])
        if done is None:
            continue
        if all(done.samples.get(name) for name in (BASELINE, done.reference)):
            for name in done.usable:  # one that was only begun takes nothing from the others
                if not done.samples[name]:
                    done.unusable[name] = "not measured yet"
        if not done.keys:
            continue
        done.interrupted = len(done.keys) < done.repeats * len(done.asked.texts)
        runs = journal.of("setting", id=setting.id)
        costs = [line["costs"] for line in journal.of("costs", setting=setting.id)]
        record = make_record(done, dict(setting.config), where[runs[0]["run"]])
        alone = {line["method"]: line for line in journal.of("alone", setting=setting.id)}
        weighed = {line["precision"]: line for line in journal.of("quality", setting=setting.id)}
        priced = mean_prices(costs) if costs else None
        found.append(Outcome(setting, record, priced, alone, weighed))
    return found


def rows(found: Sequence[Outcome], part: str, *, groups: bool = False) -> Iterator[Row]:
    """Yield the rows of a part, setting by setting.

    Args:
        found: what the study came to.
        part: its name.
        groups: a row for each kind of text, or for each stretch, instead of one for all.
    """
    for outcome in found:
        setting, record = outcome.setting, outcome.record
        if setting.part != part:
            continue
        results = {result["method"]: result for result in record["results"]}
        why = {one["method"]: one["why"] for one in record["unusable"]}
        for one in setting.methods:
            result = results.get(one.name)
            reason = why.get(one.name, "not measured yet")
            if groups and result is not None and result["breakdown"]:
                for figures in result["breakdown"]:
                    runs = [one for one in result["runs"] if one["prompt"] in figures["members"]]
                    merged = {**result, **figures, "runs": runs}
                    place = figures.get(CONTEXT)
                    yield outcome.row(one.name, merged, "", figures["group"], place)
            else:
                yield outcome.row(one.name, result, reason)


def _interval(row: Row, key: str) -> Interval | None:
    assert row.result is not None
    return Interval(**row.result[key])


def _result_of(row: Row, method: str) -> Mapping[str, Any] | None:
    """Return the figures of another method of the same setting."""
    results = row.record["results"]
    return next((result for result in results if result["method"] == method), None)


def _vs_plain(row: Row) -> Interval | None:
    """Return the speed-up over our own plain decoding, where it was measured."""
    known = row.result is not None and row.result["speedup_vs_plain"] is not None
    return _interval(row, "speedup_vs_plain") if known else None


def _length(row: Row) -> int | None:
    """Return the draft length a method's name says."""
    own: list[str] = split(row.method, "@")[1:]
    return int(own[0]) if own and own[0].isdigit() else None


def _prediction(row: Row) -> tuple[float, int, list[float], Parts] | None:
    """Return acceptance rate, length, acceptance by depth and parts of a chain of a draft model."""
    length, result = _length(row), row.result
    plain = _result_of(row, PLAIN)
    if length is None or plain is None or result is None or row.costs is None:
        return None
    models = list(result["weight_bytes"])
    if len(models) < 2 or result["acceptance_rate"] is None:
        return None
    if any(name not in row.costs for name in models[:2]):
        return None
    target, drafter = (row.costs[name] for name in models[:2])
    parts = Parts(
        {1: target["forward"], **{int(width): c for width, c in drafter["verify"].items()}},
        {int(tokens): cost for tokens, cost in drafter["draft"].items()},
        plain["tpot_ms"] / 1000,
        plain["ttft_ms"] / 1000,
        result["ttft_ms"] / 1000,
        result["new_tokens"],
    )
    return result["acceptance_rate"], length, result["per_depth_acceptance"] or [], parts


def _by_reference(row: Row) -> float | None:
    known = _prediction(row)
    return None if known is None else of_reference(known[0], known[1], known[3].cost_ratio)


def _by_leviathan(row: Row) -> float | None:
    known = _prediction(row)
    return None if known is None else of_leviathan(known[0], known[1], known[3].cost_ratio)


def _by_parts(row: Row) -> float | None:
    known = _prediction(row)
    return None if known is None else of_parts(known[2], known[1], known[3])


def _off(predicted: Any) -> Any:
    def error(row: Row) -> float | None:
        value, measured = predicted(row), _vs_plain(row)
        return None if value is None or measured is None else value / measured.value - 1

    return error


def _cost_ratio(row: Row) -> float | None:
    known = _prediction(row)
    return None if known is None else known[3].cost_ratio


def _drift(row: Row) -> float | None:
    """Return how long the baseline took at the end of the last run over its beginning."""
    drift = row.record["drift"]
    return None if not drift else float(drift[-1]["last"] / drift[-1]["first"])


def _cold_speedup(row: Row) -> float | None:
    """Return the speed-up on the first prompt, the baseline being the first text it wrote."""
    hf = _result_of(row, BASELINE)
    if hf is None or row.result is None or not hf["cold_seconds_a_token"]:
        return None
    runs = [run for run in row.result["runs"] if run["prompt"] == 0]
    if not runs:
        return None
    pace = sum(run["seconds"] for run in runs) / sum(run["new_tokens"] for run in runs)
    return float(hf["cold_seconds_a_token"] / pace)


def _alone(name: str) -> Any:
    return lambda row: None if row.alone is None else row.alone.get(name)


def _read(of: Any) -> Any:
    """Return what gives a figure of a precision's quality."""

    def figure(row: Row) -> Any:
        known = None if row.quality is None else row.quality.get("quality")
        return None if known is None else of(Quality(**known))

    return figure


def _weights(row: Row) -> int | None:
    assert row.result is not None
    return int(sum(row.result["weight_bytes"].values())) or None


def _drafter_weights(row: Row) -> int | None:
    assert row.result is not None
    return int(sum(list(row.result["weight_bytes"].values())[1:]))


def _target_kv(row: Row) -> int:
    assert row.result is not None
    return int(row.result["kv_bytes"] - row.result["drafter_kv_bytes"])


_MADE: Mapping[str, Any] = {
    "speedup": lambda row: _interval(row, "speedup_vs_hf"),
    "time_ratio": lambda row: _interval(row, "time_vs_hf"),
    "speedup_vs_plain": _vs_plain,
    "predicted_reference": _by_reference,
    "predicted_leviathan": _by_leviathan,
    "predicted_parts": _by_parts,
    "error_reference": _off(_by_reference),
    "error_leviathan": _off(_by_leviathan),
    "error_parts": _off(_by_parts),
    "cost_ratio": _cost_ratio,
    "cold_speedup": _cold_speedup,
    "drift": _drift,
    "weights": _weights,
    "drafter_weights": _drafter_weights,
    "target_kv": _target_kv,
    "alone_loading": _alone("loading"),
    "alone_peak": _alone("peak"),
    "alone_growth": _alone("growth"),
    "alone_reserved": _alone("reserved"),
    "text_ppl": _read(lambda quality: quality.ppl),
    "kl": _read(lambda quality: quality.mean_kl),
    "kl_p99": _read(lambda quality: quality.p99),
    "top1": _read(lambda quality: quality.agreement),
}
