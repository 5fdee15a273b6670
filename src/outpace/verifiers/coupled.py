"""Coupled verification: every emitted token is the target's own choice (the default)."""

from typing import ClassVar

from torch import Tensor

from ..sampling import Sampler
from ..types import Draw, TokenTree, Verdict
from .base import Verifier

LITTLE = 131_072
"""Logits that are scored together in less time than calls for single nodes take."""


class CoupledVerifier(Verifier):
    """Walk from the root: take the target's choice, step to the child that carries it.

    Exact for any tree, also one whose shape depends on the drafter's law, on the noise or on the
    target: the drafter only decides how far one forward gets. A seed gives the same text for every
    drafter and draft length.
    """

    draws: ClassVar[frozenset[Draw]] = frozenset(
        {"coupled", "iid", "without_replacement", "deterministic"}
    )

    same_text: ClassVar[bool] = True

    def drawing(self, greedy: bool) -> Draw:
        """Drafters use the target's noise, which makes their choices coincide with it."""
        return "deterministic" if greedy else "coupled"

    def verify(self, tree: TokenTree, logits: Tensor, sampler: Sampler) -> Verdict:
        """See the base class.

        On a CPU only the nodes on the way are scored (a row through top-p costs milliseconds at a
        vocabulary of 50k), unless that takes but a few operations over little; elsewhere all nodes
        are scored at once and one transfer tells the host.
        """
        few = sampler.temperature is not None and logits.numel() <= LITTLE
        if sampler.is_argmax or few or logits.device.type != "cpu":
            return _walk_scored(tree, sampler.choose_all(tree, logits))
        return _walk_lazily(tree, logits, sampler)


def _walk_scored(tree: TokenTree, choices: Tensor) -> Verdict:
    tokens, parents, chosen = tree.lists_with(choices)
    path: list[int] = []
    node = 0
    if tree.is_chain:
        while node + 1 < len(tokens) and tokens[node + 1] == chosen[node]:
            node += 1
        path = list(range(1, node + 1))
    else:
        children = _children(tokens, parents)
        while (child := children.get((node, chosen[node]))) is not None:
            path.append(child)
            node = child
    return Verdict(path, [*(tokens[n] for n in path), chosen[node]], chosen)


def _walk_lazily(tree: TokenTree, logits: Tensor, sampler: Sampler) -> Verdict:
    tokens, parents = tree.lists()
    children = _children(tokens, parents)
    path: list[int] = []
    emitted: list[int] = []
    choices = [-1] * len(tree)
    node: int | None = 0
    while node is not None:
        choice = int(sampler.choose(logits[node], emitted))
        choices[node] = choice
        emitted.append(choice)
        node = children.get((node, choice))
        if node is not None:
            path.append(node)
    return Verdict(path, emitted, choices)


def _children(tokens: list[int], parents: list[int]) -> dict[tuple[int, int], int]:
    """Return (parent, token) → node; of equal siblings the first."""
    children: dict[tuple[int, int], int] = {}
    for node in range(1, len(tokens)):
        children.setdefault((parents[node], tokens[node]), node)
    return children
