"""Rejection verification of a chain (arXiv 2211.17192): the same law, not the same text."""

from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DrawRefused, InvalidArgument
from ..sampling import Sampler
from ..types import Draw, TokenTree, Verdict
from .base import Verifier


class RejectionVerifier(Verifier):
    """Accept a draft token x with probability min(1, p(x)/q(x)); else sample norm(max(0, p − q)).

    If all are accepted, one more token is sampled from p. A deterministic draft (n-grams, greedy)
    has all its law q on the drafted token. Under greedy decoding p has all its law on the best
    token, so the text equals plain decoding.

    Args:
        skip_sample_adjustment: after a rejection sample from p instead of the residual. Biased:
            the drafter's favourites come out too often. Kept for comparison with systems that
            offer it; the decoder then reports *approximate*.
    """

    draws: ClassVar[frozenset[Draw]] = frozenset({"iid", "deterministic"})

    def __init__(self, *, skip_sample_adjustment: bool = False) -> None:
        self.skip_sample_adjustment = skip_sample_adjustment
        self.exact = not skip_sample_adjustment

    def drawing(self, greedy: bool) -> Draw:
        """Draft tokens are drawn from the drafter's law, independent of the target's noise."""
        return "deterministic" if greedy else "iid"

    def verify(self, tree: TokenTree, logits: Tensor, sampler: Sampler) -> Verdict:
        """See the base class. Trees other than chains are refused."""
        self.check(tree)
        if not tree.is_chain:
            raise DrawRefused(
                "the rejection verifier takes chains only, the drafter gave a tree: "
                "use the coupled verifier, which takes any"
            )
        if tree.draw == "iid" and len(tree) > 1 and tree.log_q is None:
            raise InvalidArgument("a tree drawn as 'iid' needs log_q, the law it was drawn from")
        tokens, _ = tree.lists()
        start = len(sampler.context)
        emitted: list[int] = []
        choices = [-1] * len(tree)
        for node in range(len(tree)):
            p = sampler.probabilities(logits[node], emitted)  # [V]
            t = start + len(emitted)
            if node + 1 == len(tree):
                choices[node] = sampler.noise.draw(p, t)
                break
            x = tokens[node + 1]
            q = _drafted_law(tree, node, x, p)
            if sampler.noise.accept(float(p[x] / q[x]), t):
                choices[node] = x
                emitted.append(x)
                continue
            residual = p if self.skip_sample_adjustment else (p - q).clamp_(min=0)
            choices[node] = sampler.noise.draw(residual if float(residual.sum()) > 0 else p, t)
            break
        path = list(range(1, len(emitted) + 1))
        return Verdict(path, [*emitted, choices[len(emitted)]], choices)


def _drafted_law(tree: TokenTree, node: int, x: int, p: Tensor) -> Tensor:
    """Return q, float64 ``[V]``: the law the child of ``node`` was drawn from."""
    if tree.draw != "iid" or tree.log_q is None:
        law = torch.zeros_like(p)
        law[x] = 1.0
        return law
    return tree.log_q[node].to(torch.float64).exp()
