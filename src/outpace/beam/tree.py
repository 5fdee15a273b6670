"""All beams there ever were: a tree of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class BeamTree:
    """The tree a beam search has grown. A beam is the node it ends at.

    Two nodes with one parent never carry the same token, so no two beams are the same text.

    Attributes:
        tokens: of each node. Node 0 is the last token of the prompt.
        parents: of each node, -1 for node 0; a parent comes before its children.
        log_probs: of the new tokens up to each node, under the processed law.
        finished: score of each node at which a finished text ends that was kept at the time.
    """

    tokens: list[int]
    parents: list[int] = field(default_factory=lambda: [-1])
    log_probs: list[float] = field(default_factory=lambda: [0.0])
    finished: dict[int, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, parent: int, token: int, log_prob: float) -> int:
        """Add a node and return its number."""
        self.log_probs.append(log_prob)
        self.parents.append(parent)
        self.tokens.append(token)
        return len(self.tokens) - 1

    def path(self, node: int) -> list[int]:
        """Return the nodes from the root's child down to ``node`` itself."""
        nodes = []
        while node:
            nodes.append(node)
            node = self.parents[node]
        return nodes[::-1]

    def text(self, node: int) -> list[int]:
        """Return the new tokens of the beam that ends at ``node``."""
        return [self.tokens[one] for one in self.path(node)]

    def children(self) -> list[list[int]]:
        """Return the children of each node, in the order they came."""
        below: list[list[int]] = [[] for _ in self.tokens]
        for node, parent in enumerate(self.parents[1:], start=1):
            below[parent].append(node)
        return below

    def above(self, nodes: Sequence[int]) -> set[int]:
        """Return these nodes and all of their ancestors, the root among them."""
        found = {0}
        for start in nodes:
            node = start
            while node not in found:
                found.add(node)
                node = self.parents[node]
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            "tokens": self.tokens,
            "parents": self.parents,
            "log_probs": self.log_probs,
            "finished": [[node, score] for node, score in self.finished.items()],
        }
