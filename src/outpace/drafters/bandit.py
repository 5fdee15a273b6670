"""The drafter of each round is the one that has been fastest of late."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..types import Context, Round
from .none import NoDrafter
from .sources import Combined, Source


@dataclass(slots=True)
class _Arm:
    """What a source has written, and how long its rounds took; old rounds count less."""

    tokens: float = 0.0
    seconds: float = 0.0
    rounds: float = 0.0

    def fade(self, by: float) -> None:
        self.tokens *= by
        self.seconds *= by
        self.rounds *= by


class BanditDrafter(Combined):
    """Choose by measured tokens a second, with a bonus for sources that are little known.

    A discounted upper confidence bound (arXiv 0805.3415): source i has the score
    ``rate_i · (1 + bonus · sqrt(log(N) / n_i))`` over discounted rounds. The source with the best
    score drafts; where it has no draft, the next one does, so a source is judged by the rounds it
    drafts in. Writing without a draft is a source too.

    Times differ from run to run, and with them who drafts: under coupled verification the text does
    not, under a rejection verifier a seed repeats its law only.

    What is learnt is speed, no text: it outlives :meth:`reset`, and counts less in the next text.

    Args:
        sources: None is suffix decoding, prompt lookup and n-grams.
        fading: weight of a round when the next one is over.
        bonus: how much not knowing counts.
    """

    def __init__(
        self,
        sources: Sequence[Source] | None = None,
        *,
        fading: float = 0.98,
        bonus: float = 0.1,
    ) -> None:
        super().__init__(sources)
        self._none = Source("none", NoDrafter())
        self._fading, self._bonus = fading, bonus
        self._arms = {source.name: _Arm() for source in (*self.sources, self._none)}
        self._chosen: Source | None = None

    @property
    def rates(self) -> dict[str, float]:
        """Tokens a second of every source that has drafted."""
        return {name: arm.tokens / arm.seconds for name, arm in self._arms.items() if arm.seconds}

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Begin a text; what was fast in another one may not be in this."""
        super().start(context, resume=resume)
        if not resume:
            for arm in self._arms.values():
                arm.fade(0.25)

    def order(self) -> list[Source]:
        """Return the sources by score, those never tried first; none of them after "none"."""
        every = [*self.sources, self._none]
        total = sum(arm.rounds for arm in self._arms.values())

        def score(source: Source) -> float:
            arm = self._arms[source.name]
            if not arm.seconds:
                return math.inf
            wide = math.sqrt(math.log(max(total, math.e)) / arm.rounds)
            return arm.tokens / arm.seconds * (1 + self._bonus * wide)

        ranked = sorted(every, key=score, reverse=True)  # ties in the order given
        return ranked[: ranked.index(self._none)]

    def chose(self, source: Source | None) -> None:
        """See the base class."""
        self._chosen = source

    def observe(self, context: Context, turn: Round) -> None:
        """Let all sources learn, and count what the one that drafted was worth."""
        super().observe(context, turn)
        if turn.index == 0:  # the prefill
            return
        for arm in self._arms.values():
            arm.fade(self._fading)
        arm = self._arms[(self._chosen or self._none).name]
        arm.tokens += len(turn.tokens)
        arm.seconds += turn.times.verified - turn.times.started
        arm.rounds += 1
