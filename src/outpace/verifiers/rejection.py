"""Rejection verification of chains and trees: the target's law, not the same text."""

from typing import ClassVar

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..sampling import Sampler
from ..types import Draw, TokenTree, Verdict
from .base import Verifier


class RejectionVerifier(Verifier):
    """Accept a draft token x with probability min(1, p(x)/q(x)); else go on with what p has left.

    Children of a node are tried in the order they were drawn. After a rejection p becomes
    norm(max(0, p − q)); when no child is left, one token is sampled from it. The law q of the next
    child depends on how siblings were drawn:

    - ``iid``: it stays q. On a chain this is arXiv 2211.17192, with several children SpecInfer's
      multi-step sampling (arXiv 2305.09781); equal siblings stand side by side.
    - ``without_replacement``: the rejected token leaves q (Sequoia, arXiv 2402.12374).
    - ``deterministic`` (n-grams, greedy, trees pruned by looking at what was drawn): all of q lies
      on the child itself.

    Under greedy decoding p has all its law on the best token, so the text equals plain decoding.

    Args:
        skip_sample_adjustment: after a rejection leave p as it is instead of taking the residual.
            Biased: the drafter's favourites come out too often. Kept for comparison with systems
            that offer it; the decoder then reports *approximate*.
    """

    draws: ClassVar[frozenset[Draw]] = frozenset({"iid", "without_replacement", "deterministic"})
    siblings: ClassVar[Draw] = "iid"
    """How a drafter that has a law draws the children of a node."""

    def __init__(self, *, skip_sample_adjustment: bool = False) -> None:
        self.skip_sample_adjustment = skip_sample_adjustment
        self.exact = not skip_sample_adjustment

    def drawing(self, greedy: bool) -> Draw:
        """Draft tokens are drawn from the drafter's law, independent of the target's noise."""
        return "deterministic" if greedy else self.siblings

    def verify(self, tree: TokenTree, logits: Tensor, sampler: Sampler) -> Verdict:
        """See the base class."""
        self.check(tree)
        tokens, parents = tree.lists()
        children: list[list[int]] = [[] for _ in tokens]
        for node in range(1, len(tree)):
            children[parents[node]].append(node)
        start = len(sampler.context)
        path: list[int] = []
        emitted: list[int] = []
        choices = [-1] * len(tree)
        node = 0
        while True:
            p = sampler.probabilities(logits[node], emitted)  # [V]
            t = start + len(emitted)
            accepted, left = self._try_children(tree, node, children[node], p, sampler, t)
            if accepted is None:
                break
            choices[node] = tokens[accepted]
            emitted.append(tokens[accepted])
            path.append(accepted)
            node = accepted
        choices[node] = sampler.noise.draw(left, t)
        return Verdict(path, [*emitted, choices[node]], choices)

    def _try_children(
        self, tree: TokenTree, node: int, children: list[int], p: Tensor, sampler: Sampler, t: int
    ) -> tuple[int | None, Tensor]:
        """Return the accepted child, or None and what to sample from instead, ``[V]``."""
        tokens, _ = tree.lists()
        gone: list[int] = []
        for order, child in enumerate(children):
            x = tokens[child]
            q = drafted_law(tree, node, x, p)
            if tree.draw == "without_replacement":
                q[gone] = 0.0
                q /= q.sum()
                gone.append(x)
            if sampler.noise.accept(float(p[x] / q[x]), t, order):
                return child, p
            if not self.skip_sample_adjustment:
                p = residual(p, q)
        return None, p


class SequoiaVerifier(RejectionVerifier):
    """Rejection verification that asks drafters for siblings without replacement (2402.12374)."""

    siblings: ClassVar[Draw] = "without_replacement"


def drafted_law(tree: TokenTree, node: int, x: int, p: Tensor) -> Tensor:
    """Return the law, float64 ``[V]`` like ``p``, that child ``x`` of ``node`` was drawn from.

    Where it was not drawn at all, the law has all its weight on the child.

    Raises:
        InvalidArgument: the tree says it was drawn from a law and does not bring it.
    """
    if tree.draw == "deterministic":
        law = torch.zeros_like(p)
        law[x] = 1.0
        return law
    if tree.log_q is None:
        raise InvalidArgument(f"a tree drawn as {tree.draw!r} needs log_q, the law it came from")
    return tree.log_q[node].double().exp()


def residual(p: Tensor, q: Tensor) -> Tensor:
    """Return norm(max(0, p − q)), float64 ``[V]``; p itself where nothing is left.

    Nothing is left only where p equals q, and then there is no rejection but for rounding.
    """
    left = (p - q).clamp_(min=0)
    total = float(left.sum())
    return left / total if total > 0 else p
