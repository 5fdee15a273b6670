"""The target drafts for itself with a cache that has forgotten: exact, and no second model."""

from __future__ import annotations

from weakref import ref

from ..cache import Session
from ..cache.policies import CachePolicy, make_policy
from ..drawing import Drawing
from ..errors import InvalidArgument
from ..models import LanguageModel
from ..models.precision import check_precision, quantized
from ..types import Budget, Context, TokenTree
from .self_drafter import SelfDrafter


class CompressedSelfDrafter(SelfDrafter):
    """Drafts with the target and few of its keys and values; the target verifies with all.

    A draft token reads the weights and what the policy keeps, a verified one the weights and the
    whole cache. So it pays where the cache is large against the weights: long texts, small models.
    After every round the keys and values of what was accepted are the verified ones, copied; the
    drafter never computes a token that is part of the text (TriForce, arXiv 2404.11912; MagicDec,
    2408.11049; with weights in few bits QuantSpec, 2502.10424).

    Args:
        policy: what is kept; one that goes by places or keys, not by attention.
        precision: of the weights it drafts with: ``int8``, ``int4``; None is the target itself.

    Raises:
        InvalidArgument: a policy that keeps everything, or goes by attention.
        UnknownName: no such policy or precision.
    """

    def __init__(
        self, policy: str = "streaming(sinks=4, recent=252)", precision: str | None = None
    ) -> None:
        super().__init__()
        made = make_policy(policy)
        if made is None:
            raise InvalidArgument(
                f"compressed-self with policy {policy!r}: it keeps everything: give another one"
            )
        if made.observes != 0:
            raise InvalidArgument(
                f"compressed-self with policy {made}: it goes by attention, and what the drafter "
                "holds was never attended to by it: give streaming, recent or a key norm"
            )
        if precision is not None:
            check_precision(precision)
        self.policy: CachePolicy = made
        self.precision = precision
        self._whole: ref[Session] | None = None  # weak: its keys and values are large

    def make(self, target: LanguageModel) -> LanguageModel:
        """Return the target, or its copy in few bits.

        Raises:
            OutpaceError: there is no such copy.
        """
        return target if self.precision is None else quantized(target, self.precision)

    def attach(self, target: LanguageModel) -> None:
        """Make the model, once, and a session that forgets.

        Raises:
            InvalidArgument: another target, or a policy that does not go with it.
        """
        fresh = self._target is None
        super().attach(target)
        if fresh:
            self.hold_by(self.policy)

    def look(self, session: Session) -> None:
        """Remember where the target's keys and values are.

        Raises:
            InvalidArgument: the target forgets by itself.
        """
        if session.forgets:
            raise InvalidArgument(
                f"compressed-self for a target with cache policy {session.policy}: what it forgets "
                "the drafter cannot copy: leave one of both out"
            )
        self._whole = ref(session)

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Nothing is read: the target's keys and values are there when a draft is asked for."""
        self._agreed, self._proposed = 0, None

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Draft a chain, after what the target has verified."""
        self._follow(context)
        tree = super().propose(context, budget, drawing)
        # the last token too was computed with few keys and values, the next time it is copied
        self._agreed = len(context) - 1
        return tree

    def _follow(self, context: Context) -> None:
        """Hold what the target has verified, as it computed it; give up what was drafted."""
        whole = None if self._whole is None else self._whole()
        assert whole is not None, "the loop has shown what the target holds"
        held = self._session
        if self._agreed:
            # draft tokens were computed with few keys and values: none of theirs is kept
            held.rollback(min(self._agreed, len(held)))
        else:  # another text, or the first: as far as it begins alike
            held.rollback(held.match(context.tokens[:-1]))
        held.follow(whole, len(context) - 1)
        self._agreed, self._proposed = len(context) - 1, None
