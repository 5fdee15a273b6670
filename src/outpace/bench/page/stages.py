"""What a generation spent its time on, from the request to its last token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..document import Turn

STAGES: Mapping[str, str] = {
    "prefill": "the prompt is read",
    "drafting": "the drafter writes",
    "verifying": "the target checks",
    "rest": "everything between",
}
"""What a stretch of time can be, in the order of the legend."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of time.

    Attributes:
        name: one of :data:`STAGES`.
        start: in seconds from the request.
        end: in seconds from the request.
        turn: number of the round it belongs to.
    """

    name: str
    start: float
    end: float
    turn: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.end - self.start


def stages(turns: Sequence[Turn]) -> list[Stage]:
    """Return the stretches one after the other, without gap; empty ones are left out.

    What lies between a round's verification and the next one's beginning is ``rest`` and the
    earlier round's; what lies before the first is the first one's.
    """
    found: list[Stage] = []
    known = 0.0
    for number, turn in enumerate(turns):
        started, drafted, verified, _ = turn.times
        found.append(Stage("rest", known, started, max(0, number - 1)))
        if number:
            found.append(Stage("drafting", started, drafted, number))
            found.append(Stage("verifying", drafted, verified, number))
        else:
            found.append(Stage("prefill", started, verified, number))
        known = verified
    if turns:
        found.append(Stage("rest", known, turns[-1].times[3], len(turns) - 1))
    return [stage for stage in found if stage.end > stage.start]


def totals(found: Sequence[Stage]) -> dict[str, float]:
    """Return the seconds of each stage, those without any left out."""
    sums = {name: sum(stage.seconds for stage in found if stage.name == name) for name in STAGES}
    return {name: seconds for name, seconds in sums.items() if seconds}
