"""Drafters made of drafters: what cascade and bandit have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from weakref import ref

from ..cache import Session
from ..cache.policies import CachePolicy
from ..drawing import Drawing
from ..errors import InvalidArgument
from ..lengths import LengthController
from ..lengths.costs import Costs
from ..lengths.fixed import MAX_LENGTH
from ..models import LanguageModel
from ..types import Budget, Context, Round, TokenTree
from .base import Drafter
from .session_drafter import SessionDrafter


@dataclass(frozen=True, slots=True)
class Source:
    """One of the drafters.

    Attributes:
        name: what it is called in figures.
        drafter: itself.
        budget: what it gets at most; None is its own, or 5 tokens in a row.
        lengths: decides how much of that pays; None is all of it.
    """

    name: str
    drafter: Drafter
    budget: Budget | None = None
    lengths: LengthController | None = None

    def within(self, context: Context, budget: Budget, drawing: Drawing) -> Budget:
        """Return what it gets of a budget.

        Where a law is drawn from, a seed repeats its text only if as much is drafted again: there
        nobody decides by measured times.
        """
        own = self.budget or self.drafter.budget or Budget.chain(5)
        allowed = [own, budget]
        if self.lengths is not None and drawing.kind in {"coupled", "deterministic"}:
            found = self.lengths.next(context)
            if not found.nodes:
                return found
            # the gate of a drafter without a budget decides how much, within the one given here
            allowed = [found, budget] if self.budget is None else [found, own, budget]
        nodes, depth = min(one.nodes for one in allowed), min(one.depth for one in allowed)
        return Budget(nodes, depth, own.confidence)


class Combined(Drafter):
    """Has several sources, one of which drafts a round; all learn from every round.

    Args:
        sources: in order.

    Raises:
        InvalidArgument: no sources, or one twice.
    """

    budget = Budget(MAX_LENGTH, MAX_LENGTH)  # every source has one of its own

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)
        names = [source.name for source in self.sources]
        if not names or len(set(names)) < len(names):
            given = ", ".join(names) or "none"
            raise InvalidArgument(f"sources {given}: give one or more, each once")
        self.gated = all(source.lengths is not None for source in self.sources)
        self.branches = any(source.drafter.branches for source in self.sources)
        self.exact = all(source.drafter.exact for source in self.sources)
        self._session: ref[Session] | None = None  # weak: its keys and values are large
        self._waiting: dict[str, bool] = {}  # sources that have not begun the text
        self.began = False  # whether the source asked last began the text only then
        self._asked: dict[str, Budget] = {}  # who was asked this round, and for how much
        self._to_rest = self._rested = 0  # rounds in which no gate has a say: to come, and passed
        self.wants = frozenset().union(*(source.drafter.wants for source in self.sources))

    def attach(self, target: LanguageModel) -> None:
        """Have all sources meet the target."""
        for source in self.sources:
            source.drafter.attach(target)
            if source.lengths is not None:
                source.lengths.attach(target, source.drafter)

    def look(self, session: Session) -> None:
        """Remember where the target's keys and values are."""
        self._session = ref(session)

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Begin a text with all sources; those with a model begin when it is their turn."""
        self._waiting = {s.name: resume for s in self.sources if s.drafter.models}
        self._asked, self._to_rest, self._rested = {}, 0, 0
        for source in self.sources:
            if source.name not in self._waiting:
                self._begin(source, context, resume=resume)

    def rests(self) -> bool:
        """Return whether nobody may draft in this round, which no gate needs to be asked about."""
        if self._to_rest:
            return True
        if self._rested:
            for source in self.sources:
                assert source.lengths is not None
                source.lengths.paused(self._rested)
            self._rested = 0
        return False

    def ask(
        self, source: Source, context: Context, budget: Budget, drawing: Drawing
    ) -> TokenTree | None:
        """Return what a source drafts, or None if that is nothing; one may begin the text first."""
        if min(budget.nodes, budget.depth) < 1:
            return None
        within = source.within(context, budget, drawing)
        if min(within.nodes, within.depth) < 1:
            return None
        self._asked[source.name] = within
        resume = self._waiting.pop(source.name, None)
        self.began = resume is not None
        if resume is not None:
            self._begin(source, context, resume=resume)
        tree = source.drafter.propose(context, within, drawing)
        return tree if len(tree) > 1 else None

    def _begin(self, source: Source, context: Context, *, resume: bool) -> None:
        session = self._session() if self._session is not None else None
        if session is not None:
            source.drafter.look(session)
        source.drafter.start(context, resume=resume)
        if source.lengths is not None and not resume:
            source.lengths.start()

    def observe(self, context: Context, turn: Round) -> None:
        """Let all sources learn that have begun the text."""
        asked, self._asked = self._asked, {}
        last = next(reversed(asked), None)
        for source in self.sources:
            if source.name not in self._waiting:
                source.drafter.observe(context, turn)
        if self._to_rest:
            self._to_rest, self._rested = self._to_rest - 1, self._rested + 1
            return
        gates = [(source, source.lengths) for source in self.sources if source.lengths is not None]
        for source, lengths in gates:
            if source.name == last and not self.began:  # else it read the whole text first
                lengths.observe(replace(turn, budget=asked[last]))
            else:
                lengths.look_on(turn, asked=source.name in asked)
        if self.gated and not asked:
            self._to_rest = min(lengths.pause for _, lengths in gates)

    def hold_by(self, policy: CachePolicy) -> None:
        """Have the sources with a model forget keys and values as a policy says.

        Raises:
            InvalidArgument: none has one, or it does not go with the model.
        """
        holding = [one.drafter for one in self.sources if isinstance(one.drafter, SessionDrafter)]
        if not holding:
            super().hold_by(policy)
        for drafter in holding:
            drafter.hold_by(policy)

    def reset(self) -> None:
        """Have all sources forget earlier texts."""
        for source in self.sources:
            source.drafter.reset()

    def costs(self, target: LanguageModel) -> Costs:
        """Return what rounds cost with the first source: it is the cheapest."""
        return self.sources[0].drafter.costs(target)

    @property
    def models(self) -> tuple[LanguageModel, ...]:
        """The models of all sources."""
        return tuple(model for source in self.sources for model in source.drafter.models)

    @property
    def forwards(self) -> int:
        """How many forwards all of them have run."""
        return sum(source.drafter.forwards for source in self.sources)

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values that all of them hold."""
        return sum(source.drafter.kv_bytes for source in self.sources)

    @property
    def store_bytes(self) -> int:
        """Bytes of what all of them have learnt."""
        return sum(source.drafter.store_bytes for source in self.sources)
