"""What was measured of a target and its drafter here: costs and acceptance, kept between runs."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from ..cache.costs import WIDTHS_TIMED, forward_costs
from ..folders import cache_folder
from ..models import LanguageModel
from ..types import Round

RANKS = 7
"""How many children of a node are told apart."""


@dataclass(slots=True)
class Ranks:
    """How often the child of each rank was the one that stood.

    Attributes:
        tries: per rank, visited nodes that had such a child.
        hits: of those, how often it was accepted.
    """

    tries: list[int] = field(default_factory=lambda: [0] * RANKS)
    hits: list[int] = field(default_factory=lambda: [0] * RANKS)

    def add(self, turn: Round) -> None:
        """Count the children of the root and of the accepted nodes."""
        _, parents = turn.tree.lists()
        below: dict[int, list[int]] = {}
        for node in range(1, len(parents)):
            below.setdefault(parents[node], []).append(node)
        for node, chosen in zip([0, *turn.verdict.path], [*turn.verdict.path, None], strict=True):
            for rank, child in enumerate(below.get(node, [])[:RANKS]):
                self.tries[rank] += 1
                self.hits[rank] += child == chosen

    @property
    def shares(self) -> list[float]:
        """The share of visited nodes at which the child of each rank was accepted."""
        return [h / t if t else 0.0 for h, t in zip(self.hits, self.tries, strict=True)]


class Pair:
    """Measurements of one pair of models on one machine, in one file.

    Args:
        target: the model whose text is written.
        drafter: the model that drafts.

    Attributes:
        verifying: seconds of a forward of the target, by static width.
        drafting: the same of the drafter.
        ranks: acceptance by rank, for each way of drawing children.
        path: the file.
    """

    def __init__(self, target: LanguageModel, drafter: LanguageModel) -> None:
        key = f"{target.fingerprint}{drafter.fingerprint}{machine(target.device)}"
        name = hashlib.sha256(key.encode()).hexdigest()[:24]
        self.path = cache_folder() / "pairs" / f"{name}.json"
        self.ranks: dict[str, Ranks] = {}
        kept = self._read()
        if kept is None:
            self.verifying, self.drafting = forward_costs(target), forward_costs(drafter)
            self.save()
        else:
            self.verifying, self.drafting = kept

    def save(self) -> None:
        """Write the file; where that cannot be done, the next run measures again."""
        record = {
            "verifying": self.verifying,
            "drafting": self.drafting,
            "ranks": {draw: [one.tries, one.hits] for draw, one in self.ranks.items()},
        }
        new = self.path.with_suffix(f".{os.getpid()}.new")
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(record), encoding="utf-8")
            new.replace(self.path)

    def _read(self) -> tuple[dict[int, float], dict[int, float]] | None:
        """Return the costs of an earlier run, its ranks taken over; None for no such file."""
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
            costs = [
                {int(width): float(seconds) for width, seconds in record[name].items()}
                for name in ("verifying", "drafting")
            ]
            if not all(set(WIDTHS_TIMED) <= set(one) for one in costs):
                return None
            for draw, (tries, hits) in record["ranks"].items():
                if not len(tries) == len(hits) == RANKS:
                    return None
                self.ranks[draw] = Ranks([int(n) for n in tries], [int(n) for n in hits])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return costs[0], costs[1]


def machine(device: torch.device) -> str:
    """Return what a time measured here depends on, models aside."""
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.node()
    return f"{device.type} {what}, {torch.get_num_threads()} threads, torch {torch.__version__}"
