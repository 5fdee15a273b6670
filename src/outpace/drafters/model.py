"""A small language model drafts a chain, one forward a token (arXiv 2211.17192, 2302.01318)."""

from math import inf, log

import torch
from torch import Tensor

from ..drawing import Drawing, fit
from ..models import LanguageModel
from ..models.vocabulary import check_vocabularies
from ..types import Budget, Context, TokenTree
from .session_drafter import SessionDrafter

AT_ONCE = 128
"""Tokens a chain may begin with that is drafted in one unit; more are a prefill."""


class ModelDrafter(SessionDrafter):
    """Drafts with a language model that shares the target's vocabulary.

    It keeps its own slot cache and is never prefilled twice: what the target rejected is rolled
    back, and only tokens it has not seen are fed. That is one token after a rejection and two
    after full acceptance, since it never saw its own last draft token.

    Args:
        model: a language model, loaded or wrapped.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__(model)
        self._agreed = 0  # how many tokens of the session are known to be the context's
        self._proposed: TokenTree | None = None  # what follows them: all but its last token

    def attach(self, target: LanguageModel) -> None:
        """Compare the vocabularies."""
        check_vocabularies(target, self.model)

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Prefill all of the prompt but its last token, which the first round feeds."""
        if not resume:
            self._session.clear()
        self._agreed, self._proposed = 0, None
        known = self._readable(context.tokens[:-1])
        if not self._fits(len(context)):
            return
        if known:
            self._session.prefill(known, room=256)
        else:
            self._session.clear()
        self._agreed = len(known)

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Draft ``budget.depth`` tokens in a row, fewer where the budget wants confidence."""
        root = context.tokens[-1]
        depth = self._depth(context, min(budget.depth, budget.nodes))
        if depth < 1:
            return TokenTree.chain(root, device=self.model.device)
        pick = drawing.pick(depth, self.model.vocabulary, self.model.device)
        fresh = self._roll_back(context)
        at_once = budget.confidence is None and len(fresh) <= AT_ONCE
        at_once = at_once and not self._session.observes
        if pick is not None and at_once:
            drafted = self._session.draft(fresh, depth, pick)
            self._proposed = TokenTree.chain(root, drafted, draw=drawing.kind)
            return self._proposed
        return self._step_by_step(context, fresh, depth, budget.confidence, drawing)

    def _step_by_step(
        self,
        context: Context,
        fresh: list[int],
        depth: int,
        confidence: float | None,
        drawing: Drawing,
    ) -> TokenTree:
        """Draft where a choice looks at tokens, its law is wanted, or the end is open."""
        logits = self._session.extend(fresh)
        drafted: list[Tensor] = []
        laws: list[Tensor] = []
        while True:
            token, law = drawing.choose(fit(logits, drawing.vocabulary), drafted)
            drafted.append(token)
            if law is not None:
                laws.append(law)
            if len(drafted) == depth or (
                confidence is not None and _unsure(logits, token, confidence)
            ):
                break
            logits = self._session.append([token])
        self._proposed = TokenTree.chain(
            context.tokens[-1],
            torch.stack(drafted),
            draw=drawing.kind,
            log_q=torch.stack(laws) if laws else None,
        )
        return self._proposed

    def rewind(self, context: Context, length: int) -> None:
        """Look again at what is held past the first ``length`` tokens: others may stand there."""
        if self._proposed is not None:
            self._settle(context, self._proposed)
            self._proposed = None
        self._agreed = min(self._agreed, length)

    def reset(self) -> None:
        """Forget earlier texts, and give their memory back."""
        super().reset()
        self._agreed, self._proposed = 0, None

    def _catch_up(self, context: Context) -> Tensor:
        """Roll back what the target rejected, feed what is new, return the last logits."""
        return self._session.extend(self._roll_back(context))

    def _roll_back(self, context: Context) -> list[int]:
        """Roll back what the target rejected; return what is new, one token at least."""
        held, known = self._session, self._agreed
        if self._proposed is not None:
            self._settle(context, self._proposed)
            self._proposed = None
        # the last token is always fed: its logits are wanted
        while known < min(len(held), len(context) - 1) and (
            held.tokens[known] == self._readable(context.tokens[known : known + 1])[0]
        ):
            known += 1
        held.rollback(known, roughly=True)
        if len(held) == known:  # all that is held is text by now
            held.forget()
        else:  # some of it was needed again, which a policy has forgotten
            known = len(held)
        fresh = self._readable(context.tokens[known:])
        self._agreed = len(context)
        return fresh

    def _settle(self, context: Context, tree: TokenTree) -> None:
        """Have the draft tokens that were computed among those held, as numbers."""
        # verification has brought them to the host: no wait for the device here
        held, known = self._session, self._agreed
        held.tokens[known:] = tree.lists()[0][1:][: len(held) - known]

    def _depth(self, context: Context, wanted: int) -> int:
        """Return how deep to draft: as wanted, within the model's context."""
        limit = self._session.limit
        return wanted if limit is None else min(wanted, limit - len(context))

    def _fits(self, length: int) -> bool:
        return self._session.limit is None or length < self._session.limit

    def _readable(self, tokens: list[int]) -> list[int]:
        # a target with more padded rows can write an id the drafter has no embedding for
        limit = self.model.vocabulary
        return [token if token < limit else 0 for token in tokens]


def _unsure(logits: Tensor, token: Tensor, tau: float) -> bool:
    """Return whether the model itself gives a token less than ``tau``; waits for the device."""
    return float(logits[token] - logits.logsumexp(-1)) < (log(tau) if tau else -inf)
