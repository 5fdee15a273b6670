"""Records as tables and sentences."""

from collections.abc import Sequence
from typing import Any

from .beam import OURS, THEIRS
from .environment import machine
from .record import Record
from .verdict import fastest

SPEED = (
    "method",
    "tokens/s",
    "× hf (95 % interval)",
    "TTFT ms",
    "TPOT ms",
    "acceptance rate",
    "tokens a forward",
    "draft share",
)
"""The head of the table of speeds."""
TEXT = ("method", "peak MB", "growth MB", "KV MB", "stores MB", "same text")
"""The head of the table of memory and texts."""


_KINDS = {
    "bug": "BUGS",
    "unclear": "unclear",
    "approximate": "approximate",
    "numerical": "near ties",
}


def speed_rows(record: Record) -> list[tuple[str, ...]]:
    """Return the cells under :data:`SPEED`, one row a method."""
    return [
        (
            label(result),
            *_speed(result),
            f"{result['ttft_ms']:.1f}",
            _number(result["tpot_ms"]),
            _share(result["acceptance_rate"]),
            _number(result["mean_acceptance_length"]),
            _share(result["draft_share"]),
        )
        for result in record["results"]
    ]


def text_rows(record: Record) -> list[tuple[str, ...]]:
    """Return the cells under :data:`TEXT`, one row a method."""
    return [
        (
            label(result),
            _megabytes(result["peak_memory_bytes"]),
            _megabytes(result["memory_growth_bytes"], 1),
            _megabytes(result["kv_bytes"], 1),
            _megabytes(result["store_bytes"], 1),
            same_text(result, record),
        )
        for result in record["results"]
    ]


BREAKDOWN = (
    "texts",
    "method",
    "tokens/s",
    "× hf (95 % interval)",
    "acceptance rate",
    "tokens a forward",
)
"""The head of the table of parts."""


def breakdown_rows(record: Record) -> list[tuple[str, ...]]:
    """Return the cells of the table of parts, under :data:`BREAKDOWN`."""
    parts = [
        (number, part, result)
        for result in record["results"]
        for number, part in enumerate(result["breakdown"])
    ]
    return [
        (
            f"{part['group']} ({part['prompts']})",
            label(result),
            *_speed(part),
            _share(part["acceptance_rate"]),
            _number(part["mean_acceptance_length"]),
        )
        for _, part, result in sorted(parts, key=lambda one: one[0])
    ]


def verdict(record: Record) -> str:
    """Return what is fastest here, by how much, and whether the text is still the same."""
    return " ".join([fastest([record]), *_beams(record)])


def _beams(record: Record) -> list[str]:
    """Return how fast our beam search is beside transformers' own, if both have run."""
    speeds = {one["method"]: one["speedup_vs_hf"]["value"] for one in record["results"]}
    if not {OURS, THEIRS} <= speeds.keys():
        return []
    ratio = speeds[OURS] / speeds[THEIRS]
    return [f"Beam search, whose texts are others: {OURS} is {ratio:.2f} × {THEIRS}."]


def is_wrong(record: Record) -> bool:
    """Return whether a text differs and no near tie explains it."""
    return any(warning["kind"] == "text" for warning in record["warnings"])


def markdown(record: Record) -> str:
    """Return the whole record as a page of Markdown."""
    config, environment = record["config"], record["environment"]
    versions = ", ".join(f"{name} {value}" for name, value in environment["versions"].items())
    how = f"temperature {config['temperature']}" if config["temperature"] else "greedy"
    written = "once" if config["repeats"] == 1 else f"{config['repeats']} times"
    lines = [
        f"Target {config['target']}, drafter {config['drafter']}, {config['dtype']}, "
        f"{record['prompts']['count']} prompts ({', '.join(config['prompts'])}), "
        f"{config['max_new_tokens']} new tokens each, written {written}, {how}, draft "
        f"length {config['draft_length']}.",
        "",
        *_table(SPEED, speed_rows(record)),
        "",
        *_table(TEXT, text_rows(record)),
        "",
        verdict(record),
        "",
    ]
    if parts := breakdown_rows(record):
        lines += ["The same by kind of text:", "", *_table(BREAKDOWN, parts), ""]
    lines += [f"- {warning['text']}" for warning in record["warnings"]]
    lines += [""] if record["warnings"] else []
    lines += [
        f"Measured on {machine(environment)} ({environment['system']}) with {versions}; prompts "
        f"{record['prompts']['sha256'][:12]}.",
        "",
        "```sh",
        config["command"],
        "```",
    ]
    return "\n".join(lines) + "\n"


def label(result: dict[str, Any]) -> str:
    """Return the name of a method, with what tuning found."""
    settings = result["settings"]
    if "settings_tried" in settings:
        length, threshold = settings["draft_length"], settings["confidence_threshold"]
        return f"{result['method']} ({length}, {threshold})"
    return str(result["method"])


def same_text(result: dict[str, Any], record: Record) -> str:
    """Return whether a method writes the text it is compared with."""
    if result["identical"] is None:
        return "–"
    if result["identical"]:
        return f"as {result['compared_with']}"
    count = record["prompts"]["count"]
    kinds = {one["prompt"]: one["kind"] for one in result["differences"]}
    words = [
        f"{number} {word}"
        for kind, word in _KINDS.items()
        if (number := sum(one == kind for one in kinds.values()))
    ]
    return f"{count - len(kinds)} of {count}, {', '.join(words)}"


def _speed(figures: dict[str, Any]) -> tuple[str, str]:
    speed, ratio = figures["tokens_per_second"], figures["speedup_vs_hf"]
    return (
        f"{speed['mean']:.1f} ± {speed['std']:.1f}",
        f"{ratio['value']:.2f} {_interval(ratio)}",
    )


def _interval(ratio: dict[str, Any]) -> str:
    return "(–)" if ratio["low"] is None else f"({ratio['low']:.2f}–{ratio['high']:.2f})"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _megabytes(value: int | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value / 1e6:.{digits}f}"


def _table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in cells),
    ]
