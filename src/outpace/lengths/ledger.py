"""What drafting has cost so far beyond plain decoding, and how much more it may."""

from __future__ import annotations


class Ledger:
    """A running loss, in plain rounds, that bounds what trying out may cost.

    Each round adds its time minus that of writing its tokens plainly. Gains are remembered only
    up to ``bank``: an old success does not pay for a long failure.

    Args:
        share: of the time of the text that may be lost.
        free: plain rounds that may be lost beyond that.
        bank: plain rounds of gain that are remembered.
    """

    def __init__(self, share: float = 0.02, free: float = 1.0, bank: float = 3.0) -> None:
        self._share, self._free, self._bank = share, free, bank
        self.loss = 0.0
        self.elapsed = 0.0

    def start(self) -> None:
        """Begin a text: a debt goes on as far as a new text may have one, a gain does not."""
        self.loss = min(max(self.loss, 0.0), self._free)
        self.elapsed = 0.0

    def add(self, time: float, tokens: int) -> None:
        """Count a round of ``tokens`` tokens that took the time of ``time`` plain rounds."""
        self.elapsed += time
        self.loss = max(self.loss + time - tokens, -self._bank)

    @property
    def room(self) -> float:
        """How many plain rounds more than one a round may take that is only hoped to pay."""
        return self._share * self.elapsed + self._free - self.loss

    @property
    def last_room(self) -> float:
        """The same of a round that most likely pays: as much again as gains are remembered."""
        return self.room + self._bank
