"""The drafter of each round is the one that wrote most tokens a second in rounds like it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..drawing import Drawing
from ..errors import InvalidArgument, UnsupportedModel
from ..lengths.gate import GateLength
from ..models import LanguageModel
from ..types import Budget, Context, Round, TokenTree
from .model import ModelDrafter
from .quantized_self import QuantizedSelfDrafter
from .sources import Combined, Source
from .suffix import SuffixDrafter

NONE, MODEL, COPY = "none", "model", "quantized-self"
BELIEVED = 0.5
"""The share of what a source expects to have accepted that is believed at first."""
PACE = 0.1
"""The weight of a round in how fast the machine is now."""
Arm = tuple[str, int, bool]
"""A source, how much its draft promises, and whether the text is greedy."""


@dataclass(slots=True)
class _Record:
    """What is known of an arm; old rounds count less.

    Attributes:
        believed: tokens a round it was thought to write before its first one.
        weight: how many rounds that is worth.
        tokens: what it has written.
        seconds: how long its rounds took.
        rounds: how many those are.
    """

    believed: float
    weight: float = 2.0
    tokens: float = 0.0
    seconds: float = 0.0
    rounds: float = 0.0

    def fade(self, by: float) -> None:
        self.weight = max(self.weight * by, 1e-6)  # something always speaks for it
        self.tokens *= by
        self.seconds *= by
        self.rounds *= by

    def add(self, tokens: int, seconds: float) -> None:
        self.tokens += tokens
        self.seconds += seconds
        self.rounds += 1

    @property
    def known(self) -> float:
        """How many rounds speak for it."""
        return self.weight + self.rounds

    def rate(self, usual: float) -> float:
        """Return tokens a second; ``usual`` is what a round takes that was never timed."""
        seconds = self.seconds / self.rounds if self.rounds else usual
        return (self.tokens + self.weight * self.believed) / self.known / seconds


def usual_sources(model: LanguageModel | None = None) -> list[Source]:
    """Return suffix decoding, and a draft model; where there is none, an int8 copy of the target.

    Prompt lookup and n-grams find no more than suffix decoding does, and a copy beside a draft
    model takes long rounds in which a repetition goes unnoticed: neither brought anything
    (docs/drafters.md).
    """
    if model is None:
        second = Source(COPY, QuantizedSelfDrafter())
    else:
        second = Source(MODEL, ModelDrafter(model), lengths=GateLength())
    return [Source("suffix", SuffixDrafter()), second]


class BanditDrafter(Combined):
    """Choose by measured tokens a second, with a bonus for what is little known.

    A contextual bandit with a discounted upper confidence bound (arXiv 0805.3415). A source that
    has no model drafts at once, for next to nothing; what its draft promises (the acceptance it
    expects, or how long the draft is) is the context, since the same source is worth much in a
    loop and nothing in new prose. A model is asked only when it is chosen. Writing without a
    draft is a choice too. The best score ``rate · (1 + bonus · sqrt(log(N) / n))`` drafts, n
    being the rounds that count for an arm and N those of all.

    A machine is not equally fast all the time. So that no arm looks slow for having drafted at a
    slow moment, times are divided by how long rounds take now over what rounds of their arms took.

    Times differ from run to run, and with them who drafts: under coupled verification the text
    does not, under a rejection verifier a seed repeats its law only.

    What is learnt is speed, no text: it outlives :meth:`reset`, and counts less in the next text.

    Args:
        sources: None is :func:`usual_sources`.
        model: a draft model for the usual ones.
        copy: whether the usual ones may have an int8 copy of the target where they have no model;
            it takes half the bytes of its matrices in bfloat16. Only on the CPU, and where one
            can be made.
        fading: weight of an arm's round when it has drafted the next one.
        idle: weight of its rounds when another arm has drafted.
        bonus: how much not knowing counts.

    Raises:
        InvalidArgument: no sources or one twice, weights not 0.5 to 1, or a negative bonus.
    """

    repeats = False

    def __init__(
        self,
        sources: Sequence[Source] | None = None,
        *,
        model: LanguageModel | None = None,
        copy: bool = True,
        fading: float = 0.97,
        idle: float = 0.998,
        bonus: float = 0.1,
    ) -> None:
        for name, weight in (("fading", fading), ("idle", idle)):
            if not 0.5 <= weight <= 1:
                raise InvalidArgument(f"bandit: {name} {weight}: give 0.5 to 1")
        if not 0 <= bonus < math.inf:
            raise InvalidArgument(f"bandit: bonus {bonus}: give 0 or more")
        super().__init__(usual_sources(model) if sources is None else sources)
        self._usual, self._met = sources is None, False
        if self._usual and not copy:
            self._leave_out_the_copy()
        self._fading, self._idle, self._bonus = fading, idle, bonus
        self._known: dict[Arm, _Record] = {}
        self._pace = 1.0  # how long a round takes now, over what such rounds took
        self._played: tuple[TokenTree, Arm] | None = None

    @property
    def rates(self) -> dict[str, float]:
        """Tokens a second of every source that has drafted, all at the same pace of the machine."""
        found = {}
        for name in sorted({arm[0] for arm in self._known}):
            records = [record for arm, record in self._known.items() if arm[0] == name]
            if any(record.rounds for record in records):
                found[name] = sum(r.tokens for r in records) / sum(r.seconds for r in records)
        return found

    def attach(self, target: LanguageModel) -> None:
        """Have all sources meet the target; a copy that cannot be had is none of them."""
        if self._usual and not self._met:
            if target.device.type != "cpu":
                self._leave_out_the_copy()
            try:
                for source in self.sources:
                    if source.name == COPY:
                        source.drafter.attach(target)
            except (InvalidArgument, UnsupportedModel):
                self._leave_out_the_copy()
        super().attach(target)
        self._met = True

    def _leave_out_the_copy(self) -> None:
        self.sources = [source for source in self.sources if source.name != COPY]

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Begin a text; what was fast in another one may not be in this."""
        super().start(context, resume=resume)
        if not resume:
            for record in self._known.values():
                record.fade(0.7)

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        """Return the draft of the best arm."""
        greedy = drawing.sampler.greedy
        root = TokenTree.chain(context.tokens[-1])
        choices: dict[Arm, TokenTree | Source] = {(NONE, 0, greedy): root}
        for source in self.sources if min(budget.nodes, budget.depth) else ():
            if source.drafter.models:
                choices[source.name, 0, greedy] = source
                continue
            tree = self.ask(source, context, budget, drawing)
            if tree is not None:
                choices[source.name, _promise(tree), greedy] = tree
        for arm, choice in choices.items():
            if arm not in self._known:
                self._known[arm] = _Record(_guess(choice))
        records = self._known.values()
        known = sum(record.known for record in records)
        rounds = sum(record.rounds for record in records)
        usual = sum(record.seconds for record in records) / rounds if rounds else 1.0

        def score(arm: Arm) -> float:
            record = self._known[arm]
            unsure = math.sqrt(math.log(1 + known) / record.known)
            return record.rate(usual) * (1 + self._bonus * unsure)

        best = max(choices, key=score)  # the first of equals
        choice = choices[best]
        if isinstance(choice, Source):
            choice = self.ask(choice, context, budget, drawing) or root
        self._played = choice, best
        return choice

    def observe(self, context: Context, turn: Round) -> None:
        """Let all sources learn, and count what the arm that drafted was worth."""
        super().observe(context, turn)
        if self._played is None or turn.tree is not self._played[0]:
            return
        best, self._played = self._played[1], None
        for arm, record in self._known.items():
            record.fade(self._fading if arm == best else self._idle)
        seconds = max(turn.times.verified - turn.times.started, 1e-9)
        played = self._known[best]
        if self.began:  # not a round like others: a model has read the text in it
            return
        if played.rounds:
            now = seconds * played.rounds / played.seconds
            now = min(max(now, self._pace / 2), 2 * self._pace)  # a stall is not a pace
            self._pace += PACE * (now - self._pace)
        played.add(len(turn.tokens), seconds / self._pace)


def _guess(choice: TokenTree | Source) -> float:
    """Return how many tokens a round is believed to write before the first one of its kind."""
    if isinstance(choice, Source):
        return 2.0
    if choice.scores is None:
        return 2.0 if len(choice) > 1 else 1.0
    return 1 + BELIEVED * _expected(choice)


def _promise(tree: TokenTree) -> int:
    """Return how much a draft promises, in steps that grow with it."""
    if tree.scores is None:
        return len(tree).bit_length()
    return round(2 * math.log2(1 + _expected(tree)))


def _expected(tree: TokenTree) -> float:
    """Return how many tokens the drafter expects to have accepted."""
    assert tree.scores is not None
    return sum(math.exp(score) for score in tree.scores[1:])
