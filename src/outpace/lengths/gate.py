"""Draft as much as pays: by what rounds cost, what they yield, and what was lost so far."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import inf
from typing import Any
from weakref import ref

from ..errors import InvalidArgument
from ..models import LanguageModel
from ..types import Budget, Context, Round
from .acceptance import Acceptance
from .base import LengthController, Source
from .costs import Costs
from .fixed import check_length
from .ledger import Ledger
from .prices import Prices
from .yields import Yields

HOPEFUL, CAREFUL = 0.5, -0.5
"""Standard deviations: decisions are made above the mean, and below it where too much was lost."""
SPREAD = 16
"""Rounds over which feeding a drafter what it has not seen is thought to pay off."""
SLOWEST = 4.0
"""A round counts as so many times what is expected of it at most."""
SLOW = 1.25
"""What a round takes beyond so many times what is expected counts once a second one says so too:
one slow round is the machine's, two in a row are what drafting costs."""
PROBE_FIRST, PROBE_EVERY, PROBE_SELDOM, PROBES = 8, 32, 192, 2
"""So many plain rounds are run where none were met: at the beginning, for long while the machine
has changed, and for very long."""
LOOKS, LOOK_EVERY, SELDOM, LOOKUPS = 2, 4, 16, 8
"""Looking at a round without a draft, and at whether one would pay, takes time as well. So that is
done for the first few, then every so many, then twice as seldom each time, down to a last; which
is sooner for lookups: they may find much from one round to the next."""
NOTHING = Budget(0, 0)


class GateLength(LengthController):
    """The cost gate: the length K with the most tokens per second, K = 0 included.

    ``τ(K) = 1 + Σ_{i≤K} Π_{j≤i} α_j`` tokens are expected of a round (arXiv 2211.17192, with an α
    per depth) and ``cost(K)`` seconds. Every α is a posterior, taken half a standard deviation
    above its mean: what is little known is tried. A ledger bounds what trying may cost: past it
    decisions are made a whole deviation below the mean, and a few rounds later none is lost.

    A drafter with a budget of its own (trees, suffixes) is judged by whole rounds: its budget,
    cut at the widths of a forward, or nothing.

    What it learns of acceptance and costs is kept from text to text.

    Args:
        most: the longest draft that is considered.
        frozen: costs stay as they were measured and times count for nothing: decisions are a
            function of the tokens alone.
        costs: what rounds cost; None has them measured, once for a pair of models.

    Raises:
        InvalidArgument: a length out of range.
    """

    def __init__(self, most: int = 12, *, frozen: bool = False, costs: Costs | None = None) -> None:
        check_length(most)
        self.most, self.frozen = most, frozen
        self.repeats = frozen
        self._given = costs
        self._prices: Prices | None = None
        self._attached: tuple[ref[LanguageModel], ref[Source]] | None = None
        self._learn_nothing()
        if costs is not None:
            self._has_model = costs.catching_up > 0  # until it meets the drafter
            self._price(costs)

    def _learn_nothing(self) -> None:
        self.acceptance = Acceptance(self.most)
        self.ledger = Ledger()
        self._nothing = False  # whether the drafter never drafts
        self._yields: Yields | None = None
        self._has_model, self._waits = False, True
        self._unseen = 0
        self._beyond = 0.0  # what one slow round took that no second one has confirmed
        self._since_plain, self._probing = 0, 0
        # rounds since nothing was found to pay, when to look again, and after how many then
        self._idle, self._look_at, self._period = 0, LOOK_EVERY, LOOK_EVERY
        self._rested = 0  # of those since the last look, how many nobody drafted
        self.length = 0
        self._chosen = (1.0, 1.0)  # tokens a round, plain rounds a round

    def attach(self, target: LanguageModel, drafter: Source) -> None:
        """Learn what rounds cost; what was learnt with another pair is forgotten."""
        if self._attached is not None:
            before = self._attached[0](), self._attached[1]()
            if before[0] is target and before[1] is drafter:
                return
        self._learn_nothing()
        self._attached = ref(target), ref(drafter)
        self._nothing = drafter.budget is not None and not drafter.budget.nodes
        if self._nothing:
            return
        self._has_model = bool(drafter.models)
        self._waits = target.device.type == "cpu"
        costs = drafter.costs(target) if self._given is None else self._given
        if drafter.budget is not None:
            self._yields = Yields(drafter.budget, costs.verifying)
        self._price(costs)

    def _price(self, costs: Costs) -> None:
        whole = self._yields is not None
        self._prices = Prices(costs, frozen=self.frozen, whole=whole)

    @property
    def prices(self) -> Prices:
        """What rounds cost now.

        Raises:
            InvalidArgument: nobody has said.
        """
        if self._prices is None:
            raise InvalidArgument(
                "the gate does not know what a round costs: give it to a Decoder, or give it costs"
            )
        return self._prices

    def start(self) -> None:
        """Begin a text: a new ledger; what was learnt stays."""
        self.ledger.start()
        self._unseen = self._rested = 0
        self._wake()

    def next(self, context: Context) -> Budget:
        """Return the budget that writes most tokens a second."""
        if self._nothing or (0 < self._idle < self._look_at and not self._probing):
            return NOTHING
        if self._idle:
            self._learnt.rest(self._period)
            self._period = min(2 * self._period, SELDOM if self._has_model else LOOKUPS)
            self._look_at += self._period
        prices = self.prices
        prices.at(len(context))
        if self._probing or self._since_plain >= self._patience:
            self._probing = self._probing or PROBES
            return self._choose(0, 1.0, 1.0)
        choose = self._best_chain if self._yields is None else self._best_size
        length, tokens, time, longest = choose(HOPEFUL, inf)
        if length and longest > (1 + self.ledger.room) * prices.plain:
            limit = (1 + self.ledger.last_room) * prices.plain
            length, tokens, time, _ = choose(CAREFUL, limit)
        if not length and prices.untried and self.ledger.room > 0:
            least = 1 if self._yields is None else self._yields.sizes[0]
            return self._choose(least, tokens, time / prices.plain)
        return self._choose(length, tokens, time / prices.plain)

    @property
    def _patience(self) -> int:
        """Rounds without a plain one, after which one is due: what a draft saves must be known."""
        if self.frozen:
            return sys.maxsize
        if not self.prices.known:
            return PROBE_FIRST
        return PROBE_EVERY if self.prices.doubtful else PROBE_SELDOM

    def _choose(self, length: int, tokens: float, time: float) -> Budget:
        self.length, self._chosen = length, (tokens, time)
        if not length:
            return NOTHING
        if self._yields is None:
            return Budget(length, length)
        return self._yields.budgets[self._yields.sizes.index(length)]

    def _best_chain(self, deviations: float, limit: float) -> tuple[int, float, float, float]:
        """Return K, the tokens and seconds expected, and the seconds if all K are drafted.

        Args:
            deviations: above the mean of what is known of the acceptance.
            limit: seconds that a round may take at most.
        """
        prices, acceptance = self.prices, self.acceptance
        plain = prices.plain
        best = (0, 1.0, plain, plain)
        most = 1.0 / plain
        # an asked round without a draft, then what each further token adds where there is one
        verify = prices.verify(0)
        seconds = prices.asking + verify
        late = self._unseen * prices.catching_up
        tokens = reach = made = 1.0
        before = prices.asking
        rates = acceptance.rates(deviations)
        for length, (rate, present) in enumerate(
            zip(rates, acceptance.present(), strict=True), start=1
        ):
            made *= present
            reach *= present * rate
            tokens += reach
            draft, wider = prices.draft(length), prices.verify(length)
            seconds += made * (wider - verify + draft - before)
            before, verify = draft, wider
            # what the drafter is fed now it need not be fed in the rounds to come
            if tokens > most * (seconds + late / SPREAD):
                longest = wider + draft + late
                if longest > limit:
                    break
                most = tokens / (seconds + late / SPREAD)
                best = (length, tokens, seconds, longest)
        return best

    def _best_size(self, deviations: float, limit: float) -> tuple[int, float, float, float]:
        """Return the limit on nodes, tokens and seconds expected, and those with a draft."""
        assert self._yields is not None
        prices, yields = self.prices, self._yields
        one, plain = prices.verify(0), prices.plain
        best = (0, 1.0, plain, plain)
        most = 1.0 / plain
        found = yields.found
        late = self._unseen * prices.catching_up
        nothing = (1 - found) * (prices.asking + one)
        for place, (size, gain) in enumerate(
            zip(yields.sizes, yields.gains(deviations), strict=True)
        ):
            tokens = 1 + found * gain
            draft = prices.draft(1) + yields.verifying(place, prices.verify(size) / one) * one
            seconds = found * draft + nothing
            if draft + late <= limit and tokens > most * (seconds + late / SPREAD):
                most = tokens / (seconds + late / SPREAD)
                best = (size, tokens, seconds, draft + late)
        return best

    def observe(self, turn: Round) -> None:
        """Learn from a finished round: what it yielded, what it took, what was lost."""
        if self._nothing or not turn.index:
            return
        allowed = self.length if turn.budget is None else turn.budget.nodes
        if not allowed:
            self.look_on(turn, asked=False)
            return
        prices, drafted, accepted = self.prices, turn.drafted, len(turn.verdict.path)
        expected = prices.round(drafted, self._unseen)
        times = turn.times
        taken = expected if self.frozen else times.committed - times.started
        self.ledger.add(self._counted(taken, expected) / prices.plain, accepted + 1)
        if not self.frozen:
            drafting, verifying = times.drafted - times.started, times.committed - times.drafted
            if not self._waits:  # the device is waited for once a round: only the sum is true
                share = prices.verify(drafted) / expected
                drafting, verifying = (1 - share) * taken, share * taken
            prices.observe(drafted, drafting, verifying, unseen=self._unseen)
        self._wake()
        self._learnt.rest()
        if self._yields is None:
            deep = drafted if turn.tree.is_chain or not drafted else turn.tree.deepest()
            depth = allowed if turn.budget is None else turn.budget.depth
            self.acceptance.observe(depth, deep, accepted)
        else:
            one = prices.verify(0)
            self._yields.observe(turn, allowed, lambda count: prices.verify(count) / one)
        self._since_plain += 1
        if self._has_model:
            # one that drafted has seen all but its own last token
            full = accepted == drafted
            self._unseen = int(full) if drafted else self._unseen + len(turn.tokens)

    def look_on(self, turn: Round, *, asked: bool) -> None:
        """Count what the drafter has not seen; now and then, look at what rounds take."""
        if self._has_model:
            self._unseen += len(turn.tokens)
        if asked:
            self._wake()
            if self._yields is not None:
                self._yields.miss()
            return
        plain, self._idle = not turn.drafted, self._idle + 1
        self._rested += plain
        if LOOKS < self._idle < self._look_at:
            return
        if self._rested:
            self.ledger.add(self._rested, self._rested)
            if 0 < self._probing <= self._rested:  # it was no decision that a draft does not pay
                self._wake()
            self._since_plain, self._probing = 0, max(0, self._probing - self._rested)
            self._rested = 0
        if self.frozen or not turn.index:
            return
        times = turn.times
        drafting, verifying = times.drafted - times.started, times.committed - times.drafted
        if plain and self._waits:
            self.prices.rest(drafting, verifying)
        elif plain:
            self.prices.rest(0.0, drafting + verifying)
        elif self._waits:
            self.prices.watch(turn.drafted, verifying)

    @property
    def pause(self) -> int:
        """How many rounds to come it has nothing to say about."""
        return max(0, self._look_at - self._idle - 1) if self._idle >= LOOKS else 0

    def paused(self, rounds: int) -> None:
        """Count rounds in which nobody drafted."""
        self._idle += rounds
        self._rested += rounds
        if self._has_model:
            self._unseen += rounds

    def _wake(self) -> None:
        """Look at every round again, until nothing is found to pay."""
        self._idle, self._look_at, self._period = 0, LOOK_EVERY, LOOK_EVERY

    @property
    def _learnt(self) -> Acceptance | Yields:
        return self.acceptance if self._yields is None else self._yields

    def _counted(self, taken: float, expected: float) -> float:
        """Return the seconds of a round that drafting has to answer for."""
        taken = min(taken, SLOWEST * expected)
        beyond, before = max(0.0, taken - SLOW * expected), self._beyond
        self._beyond = 0.0 if beyond and before else beyond
        return taken + before if beyond and before else taken - beyond

    @property
    def rates(self) -> list[float]:
        """The acceptance rate expected at each depth."""
        return self.acceptance.rates()

    @property
    def tokens(self) -> float:
        """Tokens a round expected of the budget chosen last."""
        return self._chosen[0]

    @property
    def speedup(self) -> float:
        """How many times faster than plain decoding the budget chosen last is expected to be."""
        return self._chosen[0] / self._chosen[1]

    def as_dict(self) -> dict[str, Any]:
        """Return what it expects, for records."""
        return {
            "length": self.length,
            "tokens_per_round": self.tokens,
            "speedup": self.speedup,
            "acceptance": self.rates if self._yields is None else None,
            "gains": None if self._yields is None else _gains(self._yields),
            "loss": self.ledger.loss,
            "frozen": self.frozen,
        }


def _gains(yields: Yields) -> dict[int, float]:
    sizes: Sequence[int] = yields.sizes
    return dict(zip(sizes, yields.gains(), strict=True))
