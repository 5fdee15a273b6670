"""A text written again with other draft lengths, at given costs: no model runs, nothing is noisy.

Under coupled verification the text is the same whatever is drafted. So what a drafter would draft
at every place of it, and how much of that would be accepted, need be found out only once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from ..decoder import Decoder
from ..drafters import Drafter
from ..drawing import Drawing
from ..lengths import LengthController
from ..lengths.costs import Costs
from ..models import LanguageModel
from ..request import Prompt, prepare
from ..types import Budget, Context, Kind, Round, Times, TokenTree, Verdict
from ..verifiers.coupled import CoupledVerifier


@dataclass(frozen=True, slots=True)
class Trace:
    """What a drafter was worth at every place of a text.

    Attributes:
        prompt: how many tokens the prompt has.
        drafted: tokens in a row it would draft after each token written, within a limit.
        accepted: how many of them are the tokens that follow.
    """

    prompt: int
    drafted: Sequence[int]
    accepted: Sequence[int]

    def __len__(self) -> int:
        return len(self.drafted)


@dataclass(frozen=True, slots=True)
class Replayed:
    """A text as it was written again.

    Attributes:
        seconds: of all its rounds, the prefill left out.
        tokens: written in them.
        lengths: draft tokens of each round.
    """

    seconds: float
    tokens: int
    lengths: tuple[int, ...]


def trace(
    target: LanguageModel,
    drafters: Sequence[Drafter],
    prompt: Prompt,
    *,
    depth: int = 12,
    **settings: Any,
) -> list[Trace]:
    """Write a text plainly and return what each drafter would have been worth on the way.

    Args:
        target: whose text it is.
        drafters: of chains, which do not learn from what the target made of their drafts nor copy
            what it holds; those with a model draft as much as they are asked to.
        prompt: what to continue.
        depth: how many tokens in a row to ask for.
        settings: of the text, see :class:`outpace.request.Settings`.
    """
    written = Decoder(target).generate(prompt, **settings).tokens
    found = []
    for drafter in drafters:
        drafter.attach(target)
        request = prepare(target, prompt, began=0.0, exact=True, **settings)
        context, sampler = request.context, request.sampler
        drawing = Drawing(CoupledVerifier().drawing(sampler.greedy), sampler, target.vocabulary)
        drafter.start(context)
        drafted, accepted = [], []
        for place, token in enumerate(written[:-1], start=1):
            context.extend([token])
            long, right = _ask(drafter, context, drawing, written[place : place + depth], depth)
            drafted.append(long)
            accepted.append(right)
        found.append(Trace(context.prompt_length, drafted, accepted))
    return found


def _ask(
    drafter: Drafter, context: Context, drawing: Drawing, follows: Sequence[int], depth: int
) -> tuple[int, int]:
    """Return how many tokens are drafted here, and how many of them are those that follow."""
    # a model that is wrong at once need not say what it would draft after that
    first = 2 if drafter.models else depth
    for length in dict.fromkeys((first, depth)):
        if length > first:
            drafter.start(context, resume=True)  # a place is asked once, unless it begins anew
        tree = drafter.propose(context, Budget.chain(length), drawing)
        draft = tree.lists()[0][1:]
        right = _agreeing(draft, follows)
        if right < len(draft):
            break
    return (depth if drafter.models else len(draft)), right


def _agreeing(draft: Sequence[int], tokens: Sequence[int]) -> int:
    pairs = enumerate(zip(draft, tokens, strict=False))
    return next((n for n, (one, two) in pairs if one != two), min(len(draft), len(tokens)))


class _Text:
    """As much of a context as a controller looks at."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


def _kinds(count: int) -> tuple[Kind, ...]:
    last: Kind = "plain"
    return (last,) * count


@lru_cache(maxsize=128)
def _chain(drafted: int) -> TokenTree:
    return TokenTree.chain(0, [0] * drafted)


def replay(
    text: Trace, lengths: LengthController, costs: Costs, *, has_model: bool = True
) -> Replayed:
    """Write a text again with a controller, every round taking what ``costs`` say.

    Args:
        text: what drafts are worth.
        lengths: chooses the budgets; what it has learnt before counts.
        costs: of the parts of a round.
        has_model: whether the drafter has a model, which is to be fed what it has not seen.
    """
    lengths.start()
    now, place, unseen, index = 0.0, 0, 0, 0
    drafts: list[int] = []
    while place < len(text):
        budget = lengths.next(cast(Context, _Text(text.prompt + place + 1)))
        budget = budget.clip(len(text) - place - 1)
        drafted = min(budget.depth, text.drafted[place])
        accepted = min(drafted, text.accepted[place])
        started = now
        if budget.depth:
            now += costs.draft(drafted)
            now += unseen * costs.catching_up if drafted and has_model else 0.0
        at = now
        now += costs.verify(drafted + 1) + costs.overhead
        index += 1
        place += accepted + 1
        drafts.append(drafted)
        unseen = int(accepted == drafted) if drafted else unseen + 1
        tokens = (0,) * (accepted + 1)
        lengths.observe(
            Round(
                index=index,
                tree=_chain(drafted),
                verdict=Verdict(list(range(1, accepted + 1)), list(tokens), []),
                tokens=tokens,
                kinds=_kinds(len(tokens)),
                pieces=("",) * len(tokens),
                times=Times(started, at, now, now),
                budget=budget,
            )
        )
    return Replayed(now, place, tuple(drafts))
