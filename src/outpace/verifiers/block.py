"""Block verification of a chain (arXiv 2403.10444): the target's law, a longer path on average."""

from typing import ClassVar

from torch import Tensor

from ..errors import DrawRefused
from ..sampling import Sampler
from ..types import Draw, TokenTree, Verdict
from .base import Verifier
from .rejection import drafted_law


class BlockVerifier(Verifier):
    """Decide on all prefixes of the chain together, and keep the longest that passes.

    Token by token, a draft token is lost with the first one rejected before it. Here the weight
    w_i = min(1, w_{i−1} · p(x_i)/q(x_i)) is carried along the chain, and prefix i passes with
    probability r_i / (r_i + 1 − w_i), where r_i is the sum of max(0, w_i·p − q) over the next
    token (the whole chain passes with w_K). After the longest prefix that passes, one token is
    sampled from max(0, w_i·p − q), after the whole chain from p. The expected number of accepted
    tokens is never below that of the token-wise rule.
    """

    draws: ClassVar[frozenset[Draw]] = frozenset({"iid", "deterministic"})
    chains_only: ClassVar[bool] = True

    def drawing(self, greedy: bool) -> Draw:
        """Draft tokens are drawn from the drafter's law, independent of the target's noise."""
        return "deterministic" if greedy else "iid"

    def verify(self, tree: TokenTree, logits: Tensor, sampler: Sampler) -> Verdict:
        """See the base class. Trees other than chains are refused."""
        self.check(tree)
        if not tree.is_chain:
            raise DrawRefused(
                "block verification takes chains only, the drafter gave a tree: "
                "use the rejection verifier, or the coupled one, which takes any"
            )
        tokens, _ = tree.lists()
        drafted = tokens[1:]
        start = len(sampler.context)
        weight, length = 1.0, 0
        left = logits.new_zeros(0)
        for done in range(len(tree)):
            p = sampler.probabilities(logits[done], drafted[:done])  # [V]
            rest, passes = p, weight
            if done < len(drafted):
                x = drafted[done]
                q = drafted_law(tree, done, x, p)
                rest = (weight * p - q).clamp_(min=0)
                total = float(rest.sum())
                passes = total / (total + (1.0 - weight)) if total > 0 else 0.0
                weight = min(1.0, weight * float(p[x] / q[x]))
            # all tests of a round are taken where it starts: those past what it accepts must not
            # be the next round's too
            if done == 0 or sampler.noise.accept(passes, start, done):
                length = done
                # nothing is left where p equals q: a longer prefix passes, but for rounding
                left = rest if float(rest.sum()) > 0 else p
        extra = sampler.noise.draw(left, start + length)
        emitted = [*drafted[:length], extra]
        choices = [*emitted, *[-1] * (len(drafted) - length)]
        return Verdict(list(range(1, length + 1)), emitted, choices)
