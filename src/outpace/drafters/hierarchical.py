"""A small model drafts for the target with few keys and values, which drafts for the target."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..cache import Session
from ..cache.policies import make_policy
from ..drawing import Drawing, fit
from ..errors import InvalidArgument
from ..models import LanguageModel
from ..models.vocabulary import check_vocabularies
from ..types import Budget, Context, TokenTree
from .compressed_self import CompressedSelfDrafter
from .model import ModelDrafter


class HierarchicalDrafter(CompressedSelfDrafter):
    """Two levels of speculation: draft model → target that has forgotten → target.

    The middle level verifies the draft model's chains with the keys and values it keeps, several
    tokens a forward, until as many are agreed on as are asked for; the target verifies these with
    all of its own. What is drafted is what the middle level would draft alone, in fewer forwards
    (TriForce, arXiv 2404.11912).

    Args:
        model: the small model, of the target's vocabulary.
        policy: what the middle level keeps, see :class:`CompressedSelfDrafter`.
        small_policy: what the small model keeps.
        ahead: tokens the small model drafts at a time.

    Raises:
        InvalidArgument: no model, a policy of the wrong kind, or ahead below 1.
    """

    def __init__(
        self,
        model: LanguageModel | None = None,
        policy: str = "streaming(sinks=4, recent=252)",
        small_policy: str = "streaming(sinks=4, recent=124)",
        ahead: int = 4,
    ) -> None:
        super().__init__(policy)
        if model is None:
            raise InvalidArgument("hierarchical needs a model: give hierarchical:MODEL")
        if ahead < 1:
            raise InvalidArgument(f"hierarchical: ahead {ahead}: give 1 or more")
        self._small = ModelDrafter(model)
        own = make_policy(small_policy)
        if own is not None:
            self._small.hold_by(own)
        self._ahead = ahead

    def attach(self, target: LanguageModel) -> None:
        """Compare the vocabularies, and make a session that forgets."""
        check_vocabularies(target, self._small.model)
        super().attach(target)
        self._small.attach(target)

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Have the small model read the prompt."""
        super().start(context, resume=resume)
        self._small.start(context, resume=resume)

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Draft a chain that the middle level agrees with."""
        root = context.tokens[-1]
        depth = self._depth(context, min(budget.depth, budget.nodes))
        if depth < 1:
            return TokenTree.chain(root, device=self.model.device)
        self._follow(context)
        self._small.rewind(context, len(context) - 1)
        middle = self._session
        middle.forget()
        so_far = Context(context.tokens, self.model.device)
        drafted: list[Tensor] = []
        laws: list[Tensor] = []
        own = drawing.without_law()
        while len(drafted) < depth:
            wanted = min(self._ahead, depth - len(drafted) - 1)
            chain = TokenTree.chain(so_far.tokens[-1])
            if wanted:
                further = replace(own, sampler=own.sampler.over(so_far))
                chain = self._small.propose(so_far, Budget.chain(wanted), further)
            kept = self._agree(middle, chain, drafted, laws, drawing)
            so_far.extend(kept)
        return TokenTree.chain(
            root,
            torch.stack(drafted),
            draw=drawing.kind,
            log_q=torch.stack(laws) if laws else None,
        )

    def _agree(
        self,
        middle: Session,
        chain: TokenTree,
        drafted: list[Tensor],
        laws: list[Tensor],
        drawing: Drawing,
    ) -> list[int]:
        """Run the middle level over a chain, keep what it would have drafted; return that."""
        logits = middle.forward(chain)
        tokens = chain.lists()[0][1:]
        kept: list[int] = []
        for place, row in enumerate(logits):
            token, law = drawing.choose(fit(row, drawing.vocabulary), drafted)
            drafted.append(token)
            if law is not None:
                laws.append(law)
            kept.append(int(token))
            if place >= len(tokens) or kept[-1] != tokens[place]:
                break
        # the last one was chosen, not computed
        middle.commit(chain, list(range(1, len(kept))))
        return kept

    def reset(self) -> None:
        """Forget the keys and values of earlier texts."""
        super().reset()
        self._small.reset()

    @property
    def models(self) -> tuple[LanguageModel, ...]:
        """The target, once there is one, and the small model."""
        return (*super().models, *self._small.models)

    @property
    def forwards(self) -> int:
        """How many forwards both levels have run."""
        return super().forwards + self._small.forwards

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values of both levels."""
        return super().kv_bytes + self._small.kv_bytes
