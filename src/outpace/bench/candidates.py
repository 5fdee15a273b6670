"""What could be used to decode: plain decoding, and drafters with their lengths and trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .. import registry
from ..cache.policies import CachePolicy
from ..compose import model_drafter
from ..decoder import Decoder
from ..drafters import Drafter
from ..drafters.model import ModelDrafter
from ..drafters.none import NoDrafter
from ..drafters.sequoia import level_widths
from ..drafters.tree import TreeDrafter
from ..errors import InvalidArgument
from ..lengths.costs import Costs
from ..lengths.fixed import FixedLength
from ..models import LanguageModel
from ..recipe import GATE
from .loop import Loop
from .measured import PLAIN
from .methods import Models
from .prediction import Prices, plan_speed
from .trace import Traced, replayed

STALL = 4.0
"""A round counts as so many times what is expected of it at most."""
ENOUGH = 16
"""Rounds with one tree that say more of it than the shares it was planned from."""


@dataclass(slots=True)
class Source:
    """A drafter that is looked into.

    Attributes:
        name: of the drafter, as a recipe has it.
        drafter: itself, not attached yet.
        tree: text of its trees' shape; None where it drafts in its own way.
        acceptance: α by depth, for chains.
        texts: its rounds with the longest drafts, of each text.
        prices: of its rounds.
        paces: by draft length (0 where the drafter decides), what rounds took over their prices.
    """

    name: str
    drafter: Drafter
    tree: str | None = None
    acceptance: list[float] = field(default_factory=list)
    texts: list[list[Traced]] = field(default_factory=list)
    prices: Prices | None = None
    paces: dict[int, float] = field(default_factory=dict)

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

    @property
    def is_planned(self) -> bool:
        """Whether its trees are worked out from what was accepted, so that it has to be met."""
        return isinstance(self.drafter, TreeDrafter) and self.drafter.shape.planned

    def longest(self, lengths: Sequence[int]) -> FixedLength:
        """Return the longest drafts to try."""
        return FixedLength(max(lengths)) if self.is_chain else FixedLength()

    @property
    def costs(self) -> Costs:
        """What its rounds cost, for the gate."""
        prices = self._priced()
        if self.is_chain:
            return _readable(prices.costs())
        return _readable(prices.costs_of([turn for text in self.texts for turn in text]))

    def seconds(self, length: int | None, longest: int) -> list[float]:
        """Return the predicted seconds of decoding each text that was traced.

        Args:
            length: draft tokens a round; None is as it was traced.
            longest: draft tokens a round as it was traced.
        """
        prices = self._priced()
        pace = self._pace(length or 0)
        if length is not None:
            again = [replayed(text, longest, length) for text in self.texts]
            return [pace * prices.seconds(text) for text in again]
        if isinstance(self.drafter, TreeDrafter) and self.drafter.plans:
            speed = self._planned(self.drafter) / pace
            return [_tokens(text) / speed for text in self.texts]
        return [pace * prices.seconds(text) for text in self.texts]

    def paced(self, length: int, turns: Sequence[Traced]) -> None:
        """Learn from rounds of a draft length what they take over their prices.

        Prices are of what is undisturbed and in the processor's caches; between wide and narrow
        forwards, drafters and lookups, little is. A stall of the machine counts for little.
        """
        prices = self._priced()
        expected = [prices.round(turn) for turn in turns]
        taken = [min(turn.seconds, STALL * one) for turn, one in zip(turns, expected, strict=True)]
        self.paces[length] = sum(taken) / sum(expected)

    def _pace(self, length: int) -> float:
        """Return the pace at a draft length: it lies on a line between those that were traced."""
        known = sorted(self.paces)
        return float(np.interp(length, known, [self.paces[one] for one in known]))

    def _planned(self, drafter: TreeDrafter) -> float:
        """Return the predicted tokens a second of the tree that is planned now."""
        prices = self._priced()
        draw, plan = next(iter(drafter.plans.items()))
        levels = tuple(level_widths(plan))
        rounds = [turn for text in self.texts for turn in text if turn.levels == levels]
        if len(rounds) < ENOUGH:
            return plan_speed(prices, plan, drafter.shares[draw])
        return _tokens(rounds) / prices.seconds(rounds)

    def _priced(self) -> Prices:
        assert self.prices is not None, "traced and priced before it is used"
        return self.prices


def _readable(costs: Costs) -> Costs:
    """Return costs in whole units of ten nanoseconds: a recipe is for people too."""
    return Costs(
        {width: round(seconds, 8) for width, seconds in costs.verifying.items()},
        {length: round(seconds, 8) for length, seconds in costs.drafting.items()},
        round(costs.catching_up, 8),
        round(costs.overhead, 8),
        costs.held,
        costs.per_slot,
    )


def _tokens(turns: Sequence[Traced]) -> int:
    return sum(1 + turn.accepted for turn in turns)


@dataclass(slots=True)
class Candidate:
    """One way to decode.

    Attributes:
        name: ``plain``, ``DRAFTER@K``, ``DRAFTER tree:SHAPE``, or with ``gate``.
        source: its drafter; None is plain decoding.
        length: draft tokens a round, or ``gate``; None where the drafter decides.
        predicted: tokens a second of decoding.
        loop: the method that writes texts with it.
        policy: what the target forgets; None is nothing.
        drafter_policy: likewise of its draft model.
    """

    name: str
    source: Source | None
    length: int | str | None
    predicted: float
    loop: Loop
    policy: CachePolicy | None = None
    drafter_policy: CachePolicy | None = None

    @property
    def exact(self) -> bool:
        """Whether its text has the target's own law."""
        return self.loop.exact


def candidates(
    target: LanguageModel,
    sources: Sequence[Source],
    lengths: Sequence[int],
    plain: Sequence[Traced],
    policies: Sequence[CachePolicy] = (),
) -> list[Candidate]:
    """Return what is worth measuring, each with its prediction.

    A draft model is measured at every length; what drafts without a model, where it takes a length,
    at the one that promises most. Every drafter has the gate as well, which should be as fast as
    the best of its lengths, or as plain decoding, on each text.

    Args:
        target: the model whose text is written.
        sources: the drafters, traced and priced.
        lengths: draft tokens a round.
        plain: rounds without a drafter.
        policies: of the cache, to look into too: plain decoding with each, and of each drafter what
            promises most, and the gate. Their prediction is that without a policy.
    """
    found = [_plain(target, sources[0], plain)]
    longest, models = max(lengths), Models(target, None)
    for source in sources:
        alone = [_tokens(text) / found[0].predicted for text in source.texts]
        tokens = sum(map(_tokens, source.texts))
        each: dict[int | None, list[float]]
        if source.is_chain:
            each = {length: source.seconds(length, longest) for length in lengths}
            if source.model is None:
                best = min(each, key=lambda length: sum(each[length]))
                tried = {best: each[best]}
            else:
                tried = each
        else:
            tried = each = {None: source.seconds(None, longest)}
        for length, seconds in tried.items():
            name = source.label if length is None else f"{source.label}@{length}"
            fixed = source.longest([length or 1])
            decoder = Decoder(target, source.drafter, lengths=fixed)
            loop = Loop(name, models, length or 0, decoder)
            found.append(Candidate(name, source, length, tokens / sum(seconds), loop))
        if source.drafter.gated:  # by itself
            continue
        gate = registry.get("lengths", GATE)(costs=source.costs, frozen=True)
        name = f"{source.label} {GATE}"
        loop = Loop(name, models, GATE, Decoder(target, source.drafter, lengths=gate))
        gated = sum(map(min, zip(alone, *each.values(), strict=True)))
        found.append(Candidate(name, source, GATE, tokens / gated, loop))
    return found + [one for policy in policies for one in _forgetting(target, found, policy)]


def _forgetting(
    target: LanguageModel, known: Sequence[Candidate], policy: CachePolicy
) -> list[Candidate]:
    """Return plain decoding with a policy, and of each drafter what promises most and the gate."""
    chosen = [one for one in known if one.source is None]
    for source in {id(one.source): one.source for one in known if one.source}.values():
        own = [one for one in known if one.source is source]
        fixed = [one for one in own if one.length != GATE]
        if source.tree is None and fixed:
            chosen.append(max(fixed, key=lambda one: one.predicted))
        chosen += [one for one in own if one.length == GATE]
    return [_with_policy(target, one, policy) for one in chosen]


def _with_policy(target: LanguageModel, one: Candidate, policy: CachePolicy) -> Candidate:
    before, own = one.loop.decoder, None
    drafter = before.drafter
    if type(drafter) in {ModelDrafter, TreeDrafter}:  # with a session of its own, which forgets too
        apart = model_drafter(drafter.models[0], getattr(drafter, "shape", None))
        try:
            apart.hold_by(policy)
            drafter, own = apart, policy
        except InvalidArgument:
            pass  # a draft model of fewer positions or other heads keeps all
    name = f"{one.name} with {policy}"
    lengths = before.lengths
    if one.length == GATE and one.source is not None:  # what it learns is of this decoder alone
        lengths = registry.get("lengths", GATE)(costs=one.source.costs, frozen=True)
    decoder = Decoder(target, drafter, lengths=lengths, cache_policy=policy)
    loop = Loop(name, one.loop.models, one.length or 0, decoder)
    return Candidate(name, one.source, one.length, one.predicted, loop, policy, own)


def _plain(target: LanguageModel, source: Source, turns: Sequence[Traced]) -> Candidate:
    assert source.prices is not None, "traced and priced before it is used"
    taken = sum(min(turn.seconds, STALL * source.prices.plain) for turn in turns)
    loop = Loop(PLAIN, Models(target, None), 0, Decoder(target, NoDrafter()))
    return Candidate(PLAIN, None, None, len(turns) / taken, loop)
