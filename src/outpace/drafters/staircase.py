"""What rounds cost with a model here: measured once a machine, kept between runs."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path

import torch

from ..cache.costs import FED, LENGTHS, draft_costs, feed_costs, forward_costs
from ..folders import cache_folder, write_whole
from ..lengths.costs import Costs
from ..models import LanguageModel

ROUNDS, SECONDS = 5, 0.8
"""What a quick look takes: what it gets wrong, rounds that are run correct."""
_known: dict[Path, dict[int, float]] = {}


def staircase(model: LanguageModel) -> dict[int, float]:
    """Return the seconds of a forward of a model over each static width of a round.

    Measured where no earlier run did; a file a model, precision, runtime and machine.
    """
    return _kept(model, "forward", model.widths, forward_costs)


def drafting(model: LanguageModel) -> dict[int, float]:
    """Return the seconds of drafts of a few lengths with a model, measured and kept likewise."""
    return _kept(model, "draft", LENGTHS, draft_costs)


def catching_up(model: LanguageModel) -> float:
    """Return the seconds of each token a draft model is fed beyond the usual one, likewise."""
    found, (few, many) = _kept(model, "feed", FED, feed_costs), FED
    return (found[many] - found[few]) / (many - few)


def _kept(
    model: LanguageModel,
    what: str,
    numbers: Sequence[int],
    measure: Callable[..., dict[int, float]],
) -> dict[int, float]:
    key = f"{what}{model.fingerprint}{model.runtime_name}{machine(model.device)}"
    path = cache_folder() / "costs" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    found = _known.get(path) or _read(path, numbers)
    if found is None:
        found = _ascending(measure(model, rounds=ROUNDS, seconds=SECONDS))
        _write(path, found)
    _known[path] = found
    return found


def machine(device: torch.device) -> str:
    """Return what a time measured here depends on, models aside."""
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.node()
    return f"{device.type} {what}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def round_costs(target: LanguageModel, models: Sequence[LanguageModel]) -> Costs:
    """Return what rounds of a target cost with a drafter of these models, or of none.

    A draft is one in a row of the first model; lookups are taken to be free.
    """
    verifying = staircase(target)
    if not models:
        return Costs(verifying)
    return Costs(verifying, {0: 0.0, **drafting(models[0])}, catching_up(models[0]))


def _ascending(found: dict[int, float]) -> dict[int, float]:
    """Return the costs with none above that of a wider forward, which was disturbed less."""
    least, kept = inf, {}
    for width in sorted(found, reverse=True):
        least = min(least, found[width])
        kept[width] = least
    return dict(sorted(kept.items()))


def _read(path: Path, widths: Sequence[int]) -> dict[int, float] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = {int(width): float(seconds) for width, seconds in record.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    whole = set(widths) <= set(found) and all(0 < one < 1e6 for one in found.values())
    return found if whole else None


def _write(path: Path, found: dict[int, float]) -> None:
    with suppress(OSError):  # the next run measures again
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(found))
