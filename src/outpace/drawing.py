"""How a drafter that has a law draws from it, so that the verifier can treat what it drew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .noise import Stream
from .sampling import Pick, Sampler
from .types import Draw


@dataclass(frozen=True, slots=True)
class Children:
    """What was drawn below the nodes of a level.

    Attributes:
        tokens: ``[n, b]`` int64, in the order they were drawn.
        scores: ``[n, b]`` float32, the logarithm of how sure the drafter is of each.
        best: ``[n]``, how sure it is of the best one: a probability.
        log_q: ``[n, V]`` the law they were drawn from, or None.
    """

    tokens: Tensor
    scores: Tensor
    best: Tensor
    log_q: Tensor | None

    def lists(self) -> tuple[list[list[int]], list[list[float]], list[float]]:
        """Return tokens, scores and best as lists, in one transfer."""
        # float64 holds every token id
        columns = [self.tokens.double(), self.scores.double(), self.best.double()[:, None]]
        rows = torch.cat(columns, dim=-1).tolist()
        count = self.tokens.shape[-1]
        return (
            [[int(token) for token in row[:count]] for row in rows],
            [row[count:-1] for row in rows],
            [row[-1] for row in rows],
        )


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a drafter chooses from its own logits so that the verifier can treat the tree.

    Attributes:
        kind: the draw the verifier accepts from a drafter with a law.
        sampler: the target's sampler: same processors, same noise, same context.
        vocabulary: how many rows the target's logits have; None where it does not matter.
    """

    kind: Draw
    sampler: Sampler
    vocabulary: int | None = None

    def choose(self, logits: Tensor, path: Sequence[int | Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return the draft token after ``path`` (0-d tensor) and its law ``[V]`` if one is due."""
        if self.kind in {"iid", "without_replacement"}:  # of one child the two are one
            return self.sampler.draw_iid(logits, path)
        return self.sampler.choose(logits, path), None

    def pick(self, count: int, size: int, device: torch.device) -> Pick | None:
        """Return how a chain of ``count`` tokens is chosen from logits of ``size`` alone.

        None where it takes more: a law, processors that look at the text, or another vocabulary
        than the target's.
        """
        other = self.vocabulary is not None and size != self.vocabulary
        if other or self.kind in {"iid", "without_replacement"}:
            return None
        return self.sampler.pick(count, size, device)

    def without_law(self) -> Drawing:
        """The same for a drafter that may drop what it drew: no law is left to reject by."""
        if self.kind in {"iid", "without_replacement"}:
            return replace(self, kind="deterministic")
        return self

    def children(
        self, logits: Tensor, paths: Sequence[Sequence[int | Tensor]], count: int
    ) -> Children:
        """Draw ``count`` children for every node of a level.

        Args:
            logits: ``[n, V_drafter]``.
            paths: the draft tokens on the way to each node, itself included; all of one length.
            count: how many; fewer where the vocabulary is smaller.
        """
        rows = fit(logits, self.vocabulary)
        scores = self.sampler.scores_of(rows, paths)
        count = min(count, scores.shape[-1])
        depth = len(paths[0])
        if self.kind == "deterministic" or self.kind == "coupled":
            if self.kind == "coupled" and not self.sampler.greedy:
                t = len(self.sampler.context) + depth
                scores = scores + self.sampler.gumbel(t, scores, Stream.COUPLED)
            sure = torch.log_softmax(scores, dim=-1)
            values, tokens = torch.topk(sure, count, dim=-1)
            return Children(tokens, values, values[:, 0].exp(), None)
        log_q = torch.log_softmax(scores, dim=-1)
        if self.kind == "without_replacement":
            # the best of log q + Gumbel noise, best first, are draws without replacement
            noise = self.sampler.draft_gumbel(depth, log_q)
            tokens = torch.topk(log_q + noise, count, dim=-1).indices
        else:
            drawn = [
                torch.argmax(log_q + self.sampler.draft_gumbel(depth, log_q, j), dim=-1)
                for j in range(count)
            ]
            tokens = torch.stack(drawn, dim=-1)
        return Children(tokens, log_q.gather(-1, tokens), log_q.max(-1).values.exp(), log_q)


def fit(logits: Tensor, vocabulary: int | None) -> Tensor:
    """Cut or pad ``[..., V]`` to another vocabulary; what is past the smaller one is padding."""
    surplus = 0 if vocabulary is None else vocabulary - logits.shape[-1]
    if not surplus:
        return logits
    if surplus > 0:
        return torch.nn.functional.pad(logits, (0, surplus), value=float("-inf"))
    return logits[..., :vocabulary]
