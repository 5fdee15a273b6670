"""A draft length that follows the acceptance rate."""

from ..errors import InvalidArgument
from ..types import Budget, Context, Round
from .base import LengthController
from .fixed import MAX_LENGTH, check_length


class AdaptiveLength(LengthController):
    """One token shorter while few drafts are accepted, one longer while most are.

    The acceptance rate is smoothed over rounds, ``ema ← 0.9·ema + 0.1·accepted/drafted``, from
    0.8 at the start of every text; below ``shorten`` the length falls by one, above ``lengthen``
    it grows by one, within ``low`` … ``high``.

    Raises:
        InvalidArgument: bounds out of order or out of range.
    """

    def __init__(
        self,
        start: int = 5,
        *,
        low: int = 2,
        high: int = 10,
        decay: float = 0.9,
        shorten: float = 0.5,
        lengthen: float = 0.85,
    ) -> None:
        check_length(low)
        check_length(high)
        if not low <= start <= high:
            raise InvalidArgument(
                f"adaptive length from {start} within {low} … {high}: give low <= start <= high, "
                f"none above {MAX_LENGTH}"
            )
        if not (0 <= decay < 1 and 0 <= shorten <= lengthen <= 1):
            raise InvalidArgument(
                f"adaptive length with decay {decay}, thresholds {shorten} and {lengthen}: "
                "give 0 <= decay < 1 and 0 <= shorten <= lengthen <= 1"
            )
        self._first = start
        self._low, self._high = low, high
        self._decay, self._shorten, self._lengthen = decay, shorten, lengthen
        self.start()

    def start(self) -> None:
        """Begin a new text: the first length, acceptance taken as 0.8."""
        self.length = self._first
        self.acceptance = 0.8

    def next(self, context: Context) -> Budget:
        """Return the budget of the current length."""
        return Budget.chain(self.length)

    def observe(self, turn: Round) -> None:
        """Move the average, then the length; rounds without a draft say nothing."""
        if not turn.drafted:
            return
        rate = len(turn.verdict.path) / turn.drafted
        self.acceptance = self._decay * self.acceptance + (1 - self._decay) * rate
        if self.acceptance < self._shorten:
            self.length = max(self._low, self.length - 1)
        elif self.acceptance > self._lengthen:
            self.length = min(self._high, self.length + 1)
