"""What every length controller does."""

from abc import ABC, abstractmethod
from typing import Protocol

from ..models import LanguageModel
from ..types import Budget, Context, Round
from .costs import Costs


class Source(Protocol):
    """What a length controller sees of a drafter."""

    @property
    def models(self) -> tuple[LanguageModel, ...]:
        """The models it drafts with."""

    @property
    def budget(self) -> Budget | None:
        """What to give it where nobody asks for a length."""

    def costs(self, target: LanguageModel) -> Costs:
        """Return what rounds cost, measured where that was not done before."""


class LengthController(ABC):
    """Chooses the budget of each round; exactness never depends on it.

    Attributes:
        repeats: whether the same texts in the same order get the same budgets again; not where
            measured times decide.
    """

    repeats: bool = True

    @abstractmethod
    def next(self, context: Context) -> Budget:
        """Return the budget of the next round; the decoder clips it to what is left to write."""

    def attach(self, target: LanguageModel, drafter: Source) -> None:  # noqa: B027 - optional hook
        """Meet the target and the drafter, which has met the target, before anything else."""

    def start(self) -> None:  # noqa: B027 - most controllers carry nothing from text to text
        """Begin a new text."""

    def observe(self, turn: Round) -> None:  # noqa: B027 - a fixed length learns nothing
        """Learn from a finished round."""

    def look_on(self, turn: Round, *, asked: bool) -> None:  # noqa: B027 - optional hook
        """Hear of a round that another drafter drafted.

        Args:
            turn: the round.
            asked: whether this one was asked before, and had nothing.
        """

    @property
    def pause(self) -> int:
        """How many rounds to come it has nothing to say about: no draft, and no look at them."""
        return 0

    def paused(self, rounds: int) -> None:  # noqa: B027 - optional hook
        """Hear that so many such rounds have passed, in which nobody drafted."""
