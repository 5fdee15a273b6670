"""What was measured of a target and its drafter here: costs and acceptance, kept between runs."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field

from ..folders import cache_folder, write_whole
from ..models import LanguageModel
from ..types import Round
from .staircase import staircase

PRIOR = (0.6, 0.12, 0.06, 0.04, 0.03, 0.02, 0.02)
"""How often the child of each rank is thought to stand before any was seen."""
WEIGHT = 8
"""How many children of each rank that is worth."""
RANKS = len(PRIOR)
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
        """The share of visited nodes at which the child of each rank is accepted."""
        counts = zip(PRIOR, self.hits, self.tries, strict=True)
        return [(WEIGHT * prior + hits) / (WEIGHT + tries) for prior, hits, tries in counts]


class Pair:
    """What is known of a pair of models: their costs here, and acceptance, kept in one file.

    Args:
        target: the model whose text is written.
        drafter: the model that drafts.

    Attributes:
        ranks: acceptance by rank, for each way of drawing children.
        path: the file.
    """

    def __init__(self, target: LanguageModel, drafter: LanguageModel) -> None:
        self._target, self._drafter = target, drafter
        key = f"{target.fingerprint}{drafter.fingerprint}"
        name = hashlib.sha256(key.encode()).hexdigest()[:24]
        self.path = cache_folder() / "pairs" / f"{name}.json"
        self.ranks: dict[str, Ranks] = {}
        self._read()

    @property
    def verifying(self) -> dict[int, float]:
        """Seconds of a forward of the target, by width, as it is run now."""
        return staircase(self._target)

    @property
    def drafting(self) -> dict[int, float]:
        """The same of the drafter."""
        return staircase(self._drafter)

    def save(self) -> None:
        """Write the file; where that cannot be done, the next run learns again."""
        record = {draw: [one.tries, one.hits] for draw, one in self.ranks.items()}
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps({"ranks": record}))

    def _read(self) -> None:
        """Take over the ranks of earlier runs."""
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))["ranks"]
            found = {
                str(draw): Ranks([int(n) for n in tries], [int(n) for n in hits])
                for draw, (tries, hits) in record.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return
        if all(len(one.tries) == len(one.hits) == RANKS for one in found.values()):
            self.ranks = found
