"""How much of the cache each key-value head needs, as ``outpace heads`` finds it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidArgument
from ..folders import read_given

FORMAT = "outpace-heads-1"
"""What a file says it is."""

SINK_WINDOW, WINDOW, FULL = KINDS = ("sink+window", "window", "full")
"""What a head keeps: the first tokens and the last ones, the last ones, or all."""


@dataclass(frozen=True, slots=True)
class HeadBudget:
    """What to keep for a key-value head.

    Attributes:
        share: of the tokens, from 0.5 to 1.
        kind: of :data:`KINDS`.
        window: the last tokens that are kept; None where all are.
    """

    share: float
    kind: str
    window: int | None


@dataclass(frozen=True, slots=True)
class HeadBudgets:
    """What to keep for all key-value heads of a model.

    Attributes:
        model: its name.
        sinks: the first tokens that ``sink+window`` keeps.
        layers: of each layer, one budget a key-value head.
    """

    model: str
    sinks: int
    layers: Sequence[Sequence[HeadBudget]]

    def record(self) -> dict[str, Any]:
        """Return it as values that JSON has, as :meth:`read` reads them."""
        return {
            "format": FORMAT,
            "model": self.model,
            "layers": len(self.layers),
            "kv_heads": [len(layer) for layer in self.layers],
            "sinks": self.sinks,
            "budgets": [[asdict(one) for one in layer] for layer in self.layers],
        }

    @classmethod
    def read(cls, path: Path) -> HeadBudgets:
        """Read a file that ``outpace heads`` wrote.

        Raises:
            InvalidArgument: it cannot be read, or is no such file.
        """
        text = read_given(path, f"budgets {path}", "give a file that outpace heads wrote")
        try:
            record = json.loads(text)
        except ValueError as error:
            raise _unreadable(path, "it is no JSON") from error
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise _unreadable(path, f"it does not say format {FORMAT}")
        try:
            layers = tuple(tuple(map(_budget, layer)) for layer in record["budgets"])
            found = cls(str(record["model"]), int(record["sinks"]), layers)
            counts = record["layers"], record["kv_heads"]
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(path, f"{type(error).__name__}: {error}") from error
        if counts != (len(layers), [len(layer) for layer in layers]):
            raise _unreadable(path, "it has other heads than it says")
        return found


def _budget(given: dict[str, Any]) -> HeadBudget:
    share, kind, window = float(given["share"]), given["kind"], given["window"]
    if not 0 <= share <= 1:
        raise ValueError(f"share {share} is not between 0 and 1")
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is none of {', '.join(KINDS)}")
    if (window is None) != (kind == FULL) or (window is not None and int(window) < 1):
        raise ValueError(f"window {window} of kind {kind}")
    return HeadBudget(share, kind, window)


def _unreadable(path: Path, why: str) -> InvalidArgument:
    return InvalidArgument(f"budgets {path}: {why}: give a file that outpace heads wrote")
