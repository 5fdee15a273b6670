"""The same draft length every round."""

from ..errors import InvalidArgument
from ..types import Budget, Context
from .base import LengthController

DEFAULT_LENGTH = 5
MAX_LENGTH = 63  # with the root, a round fits the widest forward a tree may have


class FixedLength(LengthController):
    """Draft ``length`` tokens in a row, or a tree so deep.

    Args:
        length: how deep.
        nodes: how many draft tokens; None is ``length``, which leaves a tree no branches.

    Raises:
        InvalidArgument: not within 1 … 63, or fewer nodes than levels.
    """

    def __init__(self, length: int = DEFAULT_LENGTH, nodes: int | None = None) -> None:
        check_length(length)
        self.length = length
        self.nodes = length if nodes is None else nodes
        check_length(self.nodes)
        if self.nodes < length:
            raise InvalidArgument(
                f"{self.nodes} nodes for a depth of {length}: give as many or more"
            )

    def next(self, context: Context) -> Budget:
        """Return the same budget every round."""
        return Budget(self.nodes, self.length)


def check_length(length: int) -> None:
    """Raise InvalidArgument for a draft length that no round can have."""
    if length == 0:
        raise InvalidArgument("draft length 0: for plain decoding use --drafter none")
    if not 1 <= length <= MAX_LENGTH:
        raise InvalidArgument(f"draft length {length}: give 1 to {MAX_LENGTH}")
