"""What every drafter declares and does."""

from abc import ABC, abstractmethod

from ..cache import Session
from ..cache.policies import CachePolicy
from ..drawing import Drawing
from ..errors import InvalidArgument
from ..lengths.costs import Costs
from ..models import LanguageModel
from ..types import Budget, Context, Round, TokenTree


class Drafter(ABC):
    """Proposes what the target may write next. Whatever the draft tokens, the text is exact.

    Attributes:
        exact: False only for a drafter that changes the text.
        wants: what it learns from beyond the verdict; ``topk:k`` asks for the target's k best
            tokens at the root and the accepted nodes, ``topk-all:k`` at every node of the tree
            (``Round.extras``).
        serves: the text it was started on last, kept by the loop. Streams that share a drafter
            take turns; where the turn changes, the loop starts it again with ``resume``.
        branches: whether its trees can be more than chains.
        repeats: whether the same texts in the same order are drafted for in the same way again;
            not where measured times decide.
        budget: what to give it where nobody asks for a length; None is the decoder's default.
        gated: whether it weighs by itself what its drafts cost against what they bring.
    """

    exact: bool = True
    wants: frozenset[str] = frozenset()
    serves: Context | None = None
    branches: bool = False
    repeats: bool = True
    budget: Budget | None = None
    gated: bool = False

    def attach(self, target: LanguageModel) -> None:  # noqa: B027 - optional hook
        """Meet the target, before anything else; every decoder built on the drafter calls this.

        Raises:
            VocabularyMismatch: drafter and target number tokens differently.
        """

    def look(self, session: Session) -> None:  # noqa: B027 - optional hook
        """See what the target holds of the prompt, before each :meth:`start`; to read only."""

    def start(self, context: Context, *, resume: bool = False) -> None:  # noqa: B027
        """Begin a text.

        Args:
            context: the prompt.
            resume: the text goes on where an earlier one stopped: what is still true may be kept.
        """

    @abstractmethod
    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Return a tree of at most ``budget`` whose node 0 is the last token of ``context``.

        The root alone is an answer too: nothing worth drafting.
        """

    def observe(self, context: Context, turn: Round) -> None:  # noqa: B027 - optional hook
        """Learn from a finished round, its tokens already part of ``context``."""

    def reset(self) -> None:  # noqa: B027 - optional hook
        """Forget everything learnt from earlier texts."""

    def hold_by(self, policy: CachePolicy) -> None:
        """Forget keys and values as a policy says; the text stays exact.

        Raises:
            InvalidArgument: it holds none.
        """
        raise InvalidArgument(
            f"{type(self).__name__} with cache policy {policy}: it holds no keys and values that "
            "could be forgotten: draft with a model, or leave the policy of the drafter out"
        )

    def costs(self, target: LanguageModel) -> Costs:
        """Return what rounds cost, once it is attached; where nobody has measured it, measure."""
        from .staircase import round_costs

        return round_costs(target, self.models)

    @property
    def models(self) -> tuple[LanguageModel, ...]:
        """The models it drafts with, known once it is attached."""
        return ()

    @property
    def forwards(self) -> int:
        """How many forwards its models have run."""
        return 0

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values it holds."""
        return 0

    @property
    def store_bytes(self) -> int:
        """Bytes of what it has learnt, or reads to draft: bounded, whatever the texts."""
        return 0
