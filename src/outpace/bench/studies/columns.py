"""The columns tables can have: a heading, how a cell is shown, and the plain value of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import UnknownName
from ...registry import unknown_among
from ..metrics import Interval
from ..report import same_text
from .outcome import Row
from .study import Part

NONE = "–"
_SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        head: its heading.
        figure: the figure it shows, see :meth:`Row.figure`.
        show: a value as text.
        scale: what a value is multiplied by before it is shown.
        optional: whether a table goes without it where no row has a value.
    """

    head: str
    figure: str
    show: Callable[[Any], str]
    scale: float = 1.0
    optional: bool = False

    def value(self, row: Row) -> Any:
        """Return the plain value of a row, or None."""
        found = row.figure(self.figure)
        if found is None or isinstance(found, Interval | Mapping | str | list):
            return found
        return found if self.scale == 1 else found * self.scale

    def cell(self, row: Row) -> str:
        """Return the cell of a row."""
        if self.figure == "same_text":
            return NONE if row.result is None else same_text(dict(row.result), row.record)
        value = self.value(row)
        return NONE if value is None else self.show(value)


def _digits(count: int) -> Callable[[Any], str]:
    return lambda value: f"{value:.{count}f}"


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _signed(value: float) -> str:
    return f"{value:+.0%}".replace("-", "−")


def _mean(value: Mapping[str, Any]) -> str:
    return f"{value['mean']:.1f} ± {value['std']:.1f}"


def _range(value: Interval) -> str:
    if value.low is None or value.high is None:
        return f"{value.value:.2f}{_SPACE}(–)"
    mark = f"{_SPACE}?" if value.is_unsure else ""
    return f"{value.value:.2f}{_SPACE}[{value.low:.2f},{_SPACE}{value.high:.2f}]{mark}"


def _interval(digits: int, percent: bool = False) -> Callable[[Any], str]:
    """Return what shows an interval around a figure that is no ratio."""
    form = f".{digits}{'%' if percent else 'f'}"

    def show(value: Interval) -> str:
        if value.low is None or value.high is None:
            return f"{value.value:{form}}"
        return f"{value.value:{form}}{_SPACE}[{value.low:{form}},{_SPACE}{value.high:{form}}]"

    return show


def _small(value: Any) -> str:
    """Show a divergence, which may be of any size."""
    if isinstance(value, Interval):
        if value.low is None or value.high is None:
            return _small(value.value)
        return f"{value.value:.2g}{_SPACE}[{value.low:.2g},{_SPACE}{value.high:.2g}]"
    return f"{value:.2g}"


def _quantiles(value: Mapping[str, float]) -> str:
    return " / ".join(f"{value[name]:.1f}" for name in ("p50", "p90", "p99"))


def _depths(value: list[float]) -> str:
    return " ".join(f"{share:.2f}" for share in value[:10]) + (" …" if len(value) > 10 else "")


_MB = 1e-6
COLUMNS: Mapping[str, Column] = {
    "tokens_per_second": Column("tokens/s", "tokens_per_second", _mean),
    "speedup": Column("× hf [95 %]", "speedup", _range),
    "speedup_vs_plain": Column("× plain [95 %]", "speedup_vs_plain", _range),
    "time_ratio": Column("× hf by the text [95 %]", "time_ratio", _range),
    "cold_speedup": Column("× a cold hf", "cold_speedup", _digits(2)),
    "ttft": Column("TTFT ms", "ttft_ms", _digits(1)),
    "tpot": Column("TPOT ms", "tpot_ms", _digits(2)),
    "itl": Column("ITL ms p50/p90/p99", "itl_ms", _quantiles),
    "acceptance": Column("acceptance rate", "acceptance_rate", _percent),
    "tau": Column("tokens a forward", "mean_acceptance_length", _digits(2)),
    "depths": Column("accepted at each depth", "per_depth_acceptance", _depths),
    "drafted": Column("draft tokens a round", "drafted_per_forward", _digits(1)),
    "draft_share": Column("draft share", "draft_share", _percent),
    "forwards": Column("target forwards", "forwards", _digits(0)),
    "length": Column("new tokens", "new_tokens", _digits(1)),
    "ppl": Column("PPL", "ppl", _digits(2)),
    "repeated": Column("repeated 8-grams", "repeated_8gram_share", _percent),
    "distinct_1": Column("distinct-1", "distinct_1", _digits(3)),
    "distinct_2": Column("distinct-2", "distinct_2", _digits(3)),
    "distinct_3": Column("distinct-3", "distinct_3", _digits(3)),
    "self_bleu": Column("self-BLEU", "self_bleu", _digits(3)),
    "peak": Column("peak MB", "peak_memory_bytes", _digits(0), _MB),
    "growth": Column("growth MB", "memory_growth_bytes", _digits(1), _MB),
    "weights": Column("weights MB", "weights", _digits(1), _MB),
    "drafter_weights": Column("of the drafter", "drafter_weights", _digits(1), _MB),
    "kv": Column("KV MB", "target_kv", _digits(1), _MB),
    "drafter_kv": Column("KV of the drafter", "drafter_kv_bytes", _digits(1), _MB),
    "stores": Column("stores MB", "store_bytes", _digits(1), _MB),
    "alone_loading": Column("MB until loaded, alone", "alone_loading", _digits(0), _MB),
    "alone_peak": Column("peak MB, alone", "alone_peak", _digits(0), _MB),
    "alone_growth": Column("growth MB, alone", "alone_growth", _digits(1), _MB),
    "alone_reserved": Column("reserved MB", "alone_reserved", _digits(0), _MB, optional=True),
    "text_ppl": Column("PPL of given texts [95 %]", "text_ppl", _interval(2)),
    "kl": Column("KL a token, nats [95 %]", "kl", _small),
    "kl_p99": Column("KL p99", "kl_p99", _small),
    "top1": Column("same best token [95 %]", "top1", _interval(1, percent=True)),
    "joules": Column("J/token", "joules_per_token", _digits(2), optional=True),
    "same": Column("same text", "same_text", str),
    "rho": Column("ρ", "cost_ratio", _digits(2)),
    "predicted_reference": Column("(1+Kα)/(1+Kρ)", "predicted_reference", _digits(2)),
    "error_reference": Column("off by", "error_reference", _signed),
    "predicted_leviathan": Column("Leviathan", "predicted_leviathan", _digits(2)),
    "error_leviathan": Column("off by", "error_leviathan", _signed),
    "predicted_parts": Column("from parts", "predicted_parts", _digits(2)),
    "error_parts": Column("off by", "error_parts", _signed),
    "drift": Column("hf, end / start", "drift", _digits(2)),
    "policy_ppl": Column("PPL [95 %]", "policy_ppl", _interval(2)),
    "policy_ratio": Column("PPL × dense [95 %]", "policy_ratio", _interval(3)),
    "policy_windows": Column("PPL × windows anew [95 %]", "policy_windows", _interval(3)),
    "policy_accuracy": Column("next token right [95 %]", "policy_accuracy", _interval(1, True)),
    "kept": Column("tokens kept", "kept", _percent),
    "held": Column("tokens held", "held", _digits(0)),
    "scored": Column("tokens scored", "scored", lambda value: f"{value:,.0f}"),
}
"""Name → column."""
OF_POLICIES = (
    *("policy_ppl", "policy_ratio", "policy_windows", "policy_accuracy"),
    *("kept", "held", "scored"),
)
"""Those of a part that compares cache policies on given texts; others have none of these."""


def column(name: str, part: Part) -> Column:
    """Return a column by name.

    Raises:
        UnknownName: there is none in a part of this kind.
    """
    known = [one for one in COLUMNS if (one in OF_POLICIES) == (part.evictions is not None)]
    if name not in known:
        raise UnknownName(unknown_among("column", name, known))
    return COLUMNS[name]
