"""Rounds without models: costs, an acceptance rate, and a clock that is exact."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from outpace.lengths import LengthController
from outpace.lengths.costs import Costs
from outpace.types import Budget, Round, Times, TokenTree, Verdict

COMPILED = Costs(
    {1: 1.4e-3, 2: 1.6e-3, 4: 2.0e-3, 8: 2.9e-3, 16: 4.6e-3, 32: 8e-3, 64: 15e-3},
    {0: 0.0, 1: 0.25e-3, 2: 0.5e-3},
    catching_up=0.02e-3,
)
"""Much like the embedded pair with a compiled runtime."""
FLAT = Costs(
    {1: 8e-3, 2: 8.2e-3, 4: 8.5e-3, 8: 9.5e-3, 16: 12e-3, 32: 17e-3, 64: 28e-3},
    {0: 0.0, 1: 1e-3, 2: 2e-3},
    catching_up=0.1e-3,
)
"""Much like an eager runtime, where reading the weights is most of a forward."""
AS_LARGE = Costs(FLAT.verifying, {0: 0.0, 1: 8e-3, 2: 16e-3}, catching_up=0.4e-3)
"""The drafter is as large as the target."""

Accept = Callable[[int, int], int]
"""From the tokens written and those drafted to how many of these are accepted."""


def by_rate(rate: float, seed: int = 0) -> Accept:
    """Accept each draft token with one probability."""
    generator = random.Random(seed)

    def accept(_: int, drafted: int) -> int:
        count = 0
        while count < drafted and generator.random() < rate:
            count += 1
        return count

    return accept


class Text:
    """What a controller sees of a context."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


@cache
def tree(drafted: int) -> TokenTree:
    """Return a chain of so many draft tokens."""
    return TokenTree.chain(0, [1] * drafted)


@dataclass
class Simulation:
    """A text written with a controller.

    Attributes:
        costs: what rounds take; may be exchanged on the way.
        accept: how many draft tokens are accepted.
        find: from the draft length allowed to how many tokens are drafted.
        noise: relative deviation of every time.
    """

    lengths: LengthController
    costs: Costs
    accept: Accept
    find: Callable[[int], int] = lambda allowed: allowed
    noise: float = 0.0
    model: bool = True
    seed: int = 0
    seconds: float = 0.0
    tokens: int = 0
    drafts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._unseen, self._index = 0, 0
        self.lengths.start()

    def write(self, tokens: int, context: int = 100) -> "Simulation":
        """Go on for so many tokens."""
        until = self.tokens + tokens
        while self.tokens < until:
            self.round(self.lengths.next(Text(context + self.tokens)))
        return self

    def round(self, budget: Budget) -> None:
        """Run a round."""
        drafted = self.find(budget.depth) if budget.depth else 0
        accepted = self.accept(self.tokens, drafted)
        started = self.seconds
        drafting = 0.0
        if budget.depth:
            drafting = self.costs.draft(drafted)
            drafting += self._unseen * self.costs.catching_up if drafted else 0.0
        at = started + drafting * self._disturbed()
        self.seconds = at + self.costs.verify(drafted + 1) * self._disturbed()
        self._index += 1
        self.tokens += accepted + 1
        self.drafts.append(drafted)
        if self.model:
            self._unseen = int(accepted == drafted) if drafted else self._unseen + 1
        self.lengths.observe(
            Round(
                index=self._index,
                tree=tree(drafted),
                verdict=Verdict(list(range(1, accepted + 1)), [1] * (accepted + 1), []),
                tokens=(1,) * (accepted + 1),
                kinds=("accepted",) * accepted + ("bonus",),
                pieces=("",) * (accepted + 1),
                times=Times(started, at, self.seconds, self.seconds),
                budget=budget,
            )
        )

    def _disturbed(self) -> float:
        return 2.718 ** self._random.gauss(0, self.noise) if self.noise else 1.0

    @property
    def plain(self) -> float:
        """Seconds of writing the same tokens plainly, at the costs of now."""
        return self.tokens * self.costs.verify(1)

    @property
    def speedup(self) -> float:
        """How many times faster than plain decoding."""
        return self.plain / self.seconds


class Drafts:
    """What the gate sees of a drafter."""

    def __init__(self, costs: Costs, budget: Budget | None = None, model: bool = True) -> None:
        self.budget = budget
        self.models = (object(),) if model else ()
        self._costs = costs

    def costs(self, target: object) -> Costs:
        """Return them."""
        return self._costs


class Target:
    """What the gate sees of a target."""

    class device:  # noqa: N801 - stands for a torch.device
        type = "cpu"
