"""The same draft length every round."""

from ..errors import InvalidArgument
from ..models import LanguageModel
from ..types import Budget, Context
from .base import LengthController, Source

DEFAULT_LENGTH = 5
MAX_LENGTH = 63  # with the root, a round fits the widest forward a tree may have


class FixedLength(LengthController):
    """Draft ``length`` tokens in a row, or a tree so deep.

    Args:
        length: how deep; None is what the drafter itself has for a budget, or 5.
        nodes: how many draft tokens; None is ``length``, which leaves a tree no branches.

    Raises:
        InvalidArgument: not within 1 … 63, or fewer nodes than levels.
    """

    def __init__(self, length: int | None = None, nodes: int | None = None) -> None:
        self._own = length is None and nodes is None
        self.length = DEFAULT_LENGTH if length is None else length
        check_length(self.length)
        self.nodes = self.length if nodes is None else nodes
        check_length(self.nodes)
        if self.nodes < self.length:
            raise InvalidArgument(
                f"{self.nodes} nodes for a depth of {self.length}: give as many or more"
            )

    def attach(self, target: LanguageModel, drafter: Source) -> None:
        """Take over the drafter's own budget, if nobody asked for a length."""
        if self._own:
            budget = drafter.budget or Budget.chain(DEFAULT_LENGTH)
            self.length, self.nodes = budget.depth, budget.nodes

    def next(self, context: Context) -> Budget:
        """Return the same budget every round."""
        return Budget(self.nodes, self.length)


def check_length(length: int) -> None:
    """Raise InvalidArgument for a draft length that no round can have."""
    if length == 0:
        raise InvalidArgument("draft length 0: for plain decoding use --drafter none")
    if not 1 <= length <= MAX_LENGTH:
        raise InvalidArgument(f"draft length {length}: give 1 to {MAX_LENGTH}")
