"""What could be used to decode: plain decoding, and drafters with their lengths and trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .. import registry
from ..decoder import Decoder
from ..drafters import Drafter
from ..drafters.model import ModelDrafter
from ..drafters.none import NoDrafter
from ..drafters.tree import TreeDrafter
from ..lengths.costs import Costs
from ..lengths.fixed import FixedLength
from ..models import LanguageModel
from ..recipe import GATE
from .methods import Loop, Models
from .prediction import Prices, chain_seconds, plan_speed, traced_speed
from .trace import Traced

PLAIN = "plain"


@dataclass(slots=True)
class Source:
    """A drafter that is looked into.

    Attributes:
        name: of the drafter, as a recipe has it.
        drafter: itself, not attached yet.
        tree: text of its trees' shape; None where it drafts in its own way.
        acceptance: α by depth, for chains.
        turns: its rounds with the longest drafts.
        prices: of its rounds.
    """

    name: str
    drafter: Drafter
    tree: str | None = None
    acceptance: list[float] = field(default_factory=list)
    turns: list[Traced] = field(default_factory=list)
    prices: Prices | None = None

    @property
    def label(self) -> str:
        """The name, with the shape of its trees."""
        return self.name if self.tree is None else f"{self.name} tree:{self.tree}"

    @property
    def model(self) -> LanguageModel | None:
        """The model that drafts by itself, one forward a level; None for all other drafters."""
        return self.drafter.model if isinstance(self.drafter, ModelDrafter) else None

    @property
    def is_chain(self) -> bool:
        """Whether it takes a draft length."""
        return self.drafter.budget is None

    def longest(self, lengths: Sequence[int]) -> FixedLength:
        """Return the longest drafts to try."""
        own = self.drafter.budget
        return FixedLength(max(lengths)) if own is None else FixedLength(own.depth, own.nodes)

    @property
    def costs(self) -> Costs:
        """What its rounds cost, for the gate, which counts what the drafter has not seen itself."""
        assert self.prices is not None, "priced before it is used"
        if self.is_chain:
            return self.prices.costs()
        drafts = [turn for turn in self.turns if turn.drafted]
        if not drafts:
            return self.prices.costs()
        nodes = round(sum(turn.drafted for turn in drafts) / len(drafts))
        seconds = sum(self.prices.draft(turn.levels) for turn in drafts) / len(drafts)
        return self.prices.tree_costs(nodes, seconds)

    def speed(self, length: int | None, tokens: int) -> float:
        """Return the predicted tokens a second of decoding.

        Args:
            length: draft tokens a round, where it takes a length.
            tokens: how many there are to write after the first.
        """
        assert self.prices is not None, "priced before it is used"
        if length is not None and self.model is not None:
            costs = self.prices.costs(self.acceptance)
            return tokens / chain_seconds(costs, self.acceptance, length, tokens)
        if isinstance(self.drafter, TreeDrafter) and self.drafter.plans:
            draw, plan = next(iter(self.drafter.plans.items()))
            return plan_speed(self.prices, plan, self.drafter.shares[draw])
        return traced_speed(self.prices, self.turns, length)


@dataclass(slots=True)
class Candidate:
    """One way to decode.

    Attributes:
        name: ``plain``, ``DRAFTER@K``, ``DRAFTER tree:SHAPE``, or with ``gate``.
        source: its drafter; None is plain decoding.
        length: draft tokens a round, or ``gate``; None where the drafter decides.
        predicted: tokens a second of decoding.
        loop: the method that writes texts with it.
    """

    name: str
    source: Source | None
    length: int | str | None
    predicted: float
    loop: Loop


def candidates(
    target: LanguageModel, sources: Sequence[Source], lengths: Sequence[int], tokens: int
) -> list[Candidate]:
    """Return what is worth measuring, each with its prediction.

    A draft model is measured at every length; what drafts without a model, where it takes a length,
    at the one that promises most. Every drafter has the gate as well, which should be as fast as
    the best of its lengths or as plain decoding.

    Args:
        target: the model whose text is written.
        sources: the drafters, traced and priced.
        lengths: draft tokens a round.
        tokens: how many each text has after the first.
    """
    prices = sources[0].prices
    assert prices is not None, "priced before they are compared"
    plain = 1 / (prices.verifying[1] + prices.overhead)
    models = Models(target, None)
    loop = Loop(PLAIN, models, 0, Decoder(target, NoDrafter()))
    found = [Candidate(PLAIN, None, None, plain, loop)]
    for source in sources:
        speeds: dict[int | None, float]
        if source.is_chain:
            speeds = {length: source.speed(length, tokens) for length in lengths}
            best = max(speeds, key=lambda length: speeds[length])
            if source.model is None:
                speeds = {best: speeds[best]}
        else:
            speeds = {None: source.speed(None, tokens)}
        for length, speed in speeds.items():
            name = source.label if length is None else f"{source.label}@{length}"
            fixed = source.longest([length or 1])
            decoder = Decoder(target, source.drafter, lengths=fixed)
            found.append(
                Candidate(name, source, length, speed, Loop(name, models, length or 0, decoder))
            )
        gate = registry.get("lengths", GATE)(costs=source.costs, frozen=True)
        name = f"{source.label} {GATE}"
        decoder = Decoder(target, source.drafter, lengths=gate)
        gated = max(plain, *speeds.values())
        found.append(Candidate(name, source, GATE, gated, Loop(name, models, GATE, decoder)))
    return found
