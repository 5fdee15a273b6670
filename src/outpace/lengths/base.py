"""What every length controller does."""

from abc import ABC, abstractmethod

from ..types import Budget, Context, Round


class LengthController(ABC):
    """Chooses the budget of each round; exactness never depends on it."""

    @abstractmethod
    def next(self, context: Context) -> Budget:
        """Return the budget of the next round; the decoder clips it to what is left to write."""

    def start(self) -> None:  # noqa: B027 - most controllers carry nothing from text to text
        """Begin a new text."""

    def observe(self, turn: Round) -> None:  # noqa: B027 - a fixed length learns nothing
        """Learn from a finished round."""
