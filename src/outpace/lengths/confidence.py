"""Draft until the draft model is unsure."""

from ..errors import InvalidArgument
from ..types import Budget, Context
from .base import LengthController
from .fixed import check_length


class ConfidenceLength(LengthController):
    """Stop after the first draft token whose probability is below ``tau``; that token is kept.

    The rule of transformers' assisted generation. Drafters without probabilities draft the most.

    Args:
        tau: the draft model's own probability of its token.
        most: draft tokens at most.

    Raises:
        InvalidArgument: a probability not within 0 … 1, or a length out of range.
    """

    def __init__(self, tau: float = 0.4, most: int = 12) -> None:
        if not 0 <= tau <= 1:
            raise InvalidArgument(f"confidence with tau {tau}: give a probability, 0 to 1")
        check_length(most)
        self.tau, self.most = tau, most

    def next(self, context: Context) -> Budget:
        """Return the same budget every round; the draft model ends its drafts itself."""
        return Budget(self.most, self.most, self.tau)
