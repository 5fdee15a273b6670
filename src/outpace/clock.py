"""What time it is in the loop: injected, so that measuring never lives inside the algorithms."""

import time
from typing import Protocol


class Clock(Protocol):
    """Reads a time in seconds; differences are what counts."""

    def read(self) -> float:
        """Return the time now."""


class WallClock:
    """Wall time of the host. A round ends in a transfer to the host, so its end is true anywhere.

    Inside a round on a GPU a reading tells when work was queued, not when it was done.
    """

    def read(self) -> float:
        """Return the time now."""
        return time.perf_counter()
