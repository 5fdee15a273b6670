"""What a round costs now: a table of costs, corrected by what rounds took."""

from __future__ import annotations

from bisect import bisect_left
from math import exp, log

from .costs import Costs
from .fixed import MAX_LENGTH

COUNTS = range(MAX_LENGTH + 1)
SMALL, LARGE = 0.2, 0.8
"""How far a cost moves towards what two rounds agree on: a little, or most of the way."""
MUCH = 0.25
"""What is much, as a logarithm: a runtime that changes, or a busy machine."""
LATELY = 8
"""Rounds after which a cost that was not met follows the others all the way, and is no more than a
guess when it is met again."""
TRIALS = 2
"""Rounds with a draft that are run although the costs measured before say that none can pay."""
FORGET, FORGET_EVERY = 0.15, 2
"""How much of what live rounds have said of drafts is forgotten in so many looks at others."""
DOUBT = 0.1
"""How far, as a logarithm, a plain round's cost may follow others before it is met again."""


class Prices:
    """Seconds of the parts of a round, of each step of the target's staircase by itself.

    A cost moves only as far as two rounds in a row agree that it should, so one slow round moves
    nothing; a machine that changes its speed for good is followed within a few rounds. The costs
    that were not met lately move along with those that are: they were measured on the same machine.

    Args:
        costs: as measured before.
        frozen: nothing is corrected.
        whole: the draft is priced as a whole, whatever its length (a drafter with a budget of its
            own); the table's longest draft is what it costs at first.
    """

    def __init__(self, costs: Costs, *, frozen: bool = False, whole: bool = False) -> None:
        self.costs, self.frozen, self.whole = costs, frozen, whole
        widths = sorted(costs.verifying)
        last = len(widths) - 1
        self.step_of = [min(bisect_left(widths, count + 1), last) for count in COUNTS]
        self._steps = [costs.verifying[width] for width in widths]
        longest = costs.draft(max(costs.drafting))
        self._drafts = [0.0 if whole else costs.draft(n) - costs.draft(0) for n in COUNTS]
        self._by_length = any(self._drafts)
        self.asking = costs.draft(0) + costs.overhead
        self._found = (longest if whole else costs.draft(0)) + costs.overhead
        self._idle = costs.overhead
        self._scale = 1.0
        self._more = 0.0
        self._round = 0
        self._met = [-LATELY] * (last + 1)  # the round each step was met last
        self._off: list[float | None] = [None] * (last + 1)  # by how much, as a logarithm
        self._guessed = [True] * (last + 1)  # whether it has only followed others, or the table
        self._off_draft: float | None = None
        self._draft_met = -LATELY
        self._tried = 0
        self._followed = 0.0  # how far the first step has followed others, unmet
        self._plain_rounds = 0

    @property
    def untried(self) -> bool:
        """Whether what a draft costs is only what was measured before, perhaps at a bad moment."""
        return self._tried < TRIALS and not self.frozen

    @property
    def doubtful(self) -> bool:
        """Whether what a plain round costs is known from other rounds only."""
        return abs(self._followed) > DOUBT

    @property
    def known(self) -> bool:
        """Whether any plain round was met at all."""
        return self._met[0] >= 0

    def at(self, slots: int) -> None:
        """Say how many slots the target's forward reads now."""
        costs = self.costs
        if costs.per_slot:
            self._more = (slots - costs.held) * costs.per_slot

    def verify(self, drafted: int) -> float:
        """Return the seconds of verifying so many draft tokens."""
        return self._steps[self.step_of[drafted]] + self._more

    def draft(self, drafted: int, unseen: int = 0) -> float:
        """Return the seconds of drafting so many tokens, by a drafter that was asked."""
        if not drafted:
            return self.asking
        return self._found + self._scale * self._drafts[drafted] + unseen * self.catching_up

    def round(self, drafted: int, unseen: int = 0) -> float:
        """Return the seconds of a round whose drafter was asked."""
        return self.draft(drafted, unseen) + self.verify(drafted)

    @property
    def plain(self) -> float:
        """The seconds of a round in which nobody is asked for a draft."""
        return self._steps[0] + self._more + self._idle

    @property
    def catching_up(self) -> float:
        """The seconds of each token a drafter has not seen, beyond the usual one."""
        return self._scale * self.costs.catching_up

    def observe(self, drafted: int, drafting: float, verifying: float, unseen: int = 0) -> None:
        """Learn from the seconds both parts of a round took whose drafter was asked."""
        if self.frozen:
            return
        self._observe_draft(drafted, drafting, unseen)
        self.watch(drafted, verifying)

    def rest(self, before: float, verifying: float) -> None:
        """Learn from the seconds of a round without a draft, and of what came before it."""
        if self.frozen:
            return
        self._idle = _nearer(self._idle, before)
        self.watch(0, verifying)
        self._plain_rounds += 1
        if self._plain_rounds % FORGET_EVERY == 0:
            self._forget()

    def watch(self, drafted: int, verifying: float) -> None:
        """Learn from the seconds that verifying took, whoever drafted."""
        if self.frozen:
            return
        self._round += 1
        step = self.step_of[drafted]
        if self._round - self._met[step] > LATELY:
            self._guessed[step], self._off[step] = True, None
        was = self._steps[step]
        off = log(max(verifying - self._more, 0.05 * was) / was)
        agreed, self._off[step] = _agreed(self._off[step], off), off
        self._met[step] = self._round
        move = 0.0
        if agreed is not None:
            move = agreed * (LARGE if self._guessed[step] or abs(agreed) > MUCH else SMALL)
            self._guessed[step] = False
            if step == 0:
                self._followed = agreed - move
        if move:
            self._follow(step, move)

    def _observe_draft(self, drafted: int, seconds: float, unseen: int) -> None:
        if not drafted:
            self.asking = _nearer(self.asking, seconds)
            return
        self._draft_met = self._round + 1  # this one, which is watched next
        self._tried += 1
        if not self._by_length:
            self._found = _nearer(self._found, seconds - unseen * self.catching_up)
            return
        expected = self.draft(drafted, unseen)
        off = log(max(seconds, 1e-7) / max(expected, 1e-7))
        agreed, self._off_draft = _agreed(self._off_draft, off), off
        if agreed is None:
            return
        if agreed < -MUCH:  # far cheaper than it was taken to be, and perhaps cheaper still
            self._tried = min(self._tried, TRIALS - 1)
        self._scale *= exp(agreed * (LARGE if abs(agreed) > MUCH else SMALL))

    def _forget(self) -> None:
        """Come nearer to what was measured before, of what is not met while nothing is drafted.

        Two slow rounds in a row may have been the machine's: what they made dear would otherwise
        never be tried again.
        """
        table = self.costs
        widths = sorted(table.verifying)
        pace = log(self._steps[0] / table.verifying[widths[0]])
        for step, width in enumerate(widths[1:], start=1):
            known = log(self._steps[step] / table.verifying[width])
            self._steps[step] *= exp(FORGET * (pace - known))
        self._scale *= exp(FORGET * (pace - log(self._scale)))

    def _follow(self, step: int, move: float) -> None:
        """Move a step, and what was not met lately along with it."""
        whole = exp(move)
        for other, met in enumerate(self._met):
            share = 1.0 if other == step else min(1.0, (self._round - met) / LATELY)
            if share:
                self._steps[other] *= whole if share == 1.0 else exp(share * move)
                if other != step:
                    self._off[other] = None
                    if other == 0:
                        self._followed += share * move
        share = min(1.0, (self._round - self._draft_met) / LATELY)
        if share:
            self._off_draft = None
            self._scale *= exp(share * move)
            self._found *= exp(share * move)


def _nearer(cost: float, seconds: float) -> float:
    """Return a small cost after it was met, which one slow round cannot more than double."""
    return cost + SMALL * (min(seconds, 2 * cost + 1e-4) - cost)


def _agreed(before: float | None, now: float) -> float | None:
    """Return what two deviations in a row have in common; None where there was none before."""
    if before is None:
        return None
    if before * now <= 0:
        return 0.0
    return before if abs(before) < abs(now) else now
