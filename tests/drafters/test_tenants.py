"""Two tenants: what one of them wrote, or the target thought of, is never proposed to the other."""

import random
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outpace import registry
from outpace.drafters import Drafter
from outpace.drafters.bandit import BanditDrafter
from outpace.drafters.cascade import CascadeDrafter
from outpace.drafters.lookahead import LookaheadDrafter
from outpace.drafters.ngram import NgramDrafter
from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.drafters.recycling import RecyclingDrafter
from outpace.drafters.sources import Source
from outpace.drafters.suffix import SuffixDrafter
from outpace.drafters.suffix_store import SuffixStore
from outpace.types import Budget, Context, Round, Times, Verdict

COMMON = (0, 1, 2, 3)
OWN = ((4, 5, 6, 7), (8, 9, 10, 11))
"""Tokens that only one of the two ever writes; without common ones nothing would ever match."""
NEITHER = (12, 13, 14, 15)
PUBLIC = [0, 1, 4, 8, 2, 3, 5, 9]
INVENTS = {"lookahead"}
"""Puts tokens of the text together that never stood together; reads no public text."""
MOST = Budget(12, 6)
DRAWING = SimpleNamespace(sampler=SimpleNamespace(greedy=True))
WITHOUT_MEMORY = {
    "none",
    "model",
    "tree",
    "quantized-self",
    "early-exit",
    "compressed-self",
    "hierarchical",
    "retokenized",
}


class Target:
    vocabulary = 16


def sources(keep: bool, shared: SuffixStore | None) -> list[Source]:
    return [
        Source("suffix", SuffixDrafter(8.0, keep=keep, shared=shared)),
        Source("recycling", RecyclingDrafter(keep=keep)),
        Source("ngram", NgramDrafter(keep=keep)),
    ]


MADE = {
    "suffix": lambda keep, shared: SuffixDrafter(
        8.0, longest=4, window=16, capacity=40, keep=keep, shared=shared
    ),
    "ngram": lambda keep, shared: NgramDrafter(keep=keep, capacity=100),
    "recycling": lambda keep, shared: RecyclingDrafter(keep=keep),
    "prompt-lookup": lambda keep, shared: PromptLookupDrafter(window=20),
    "lookahead": lambda keep, shared: LookaheadDrafter(2, 3, 2),
    "cascade": lambda keep, shared: CascadeDrafter(sources(keep, shared)),
    "bandit": lambda keep, shared: BanditDrafter(sources(keep, shared)),
}


def pairs(tokens) -> set[tuple[int, int]]:
    return set(pairwise(tokens))


class Text:
    """A text of a tenant, and all pairs of tokens it can have taught a drafter."""

    def __init__(self, tenant: int, tokens: list[int]) -> None:
        self.tenant = tenant
        self.context = Context(tokens)
        self.pairs = pairs(tokens)


def best_after(tokens, most) -> list[int]:
    """The target's best tokens: they depend on what it has read, and tell whose text it is."""
    secret = next((own for own in OWN for token in tokens if token in own), NEITHER)
    ranked = [*COMMON, *secret]
    random.Random(str(tokens)).shuffle(ranked)
    return ranked[:most]


class Service:
    """Drafters serve tenants as the loop would have them do.

    Args:
        drafters: of each tenant; may be one object.
        keep: whether they keep anything between texts.
        shared: whether they have the public text.
        invents: whether their drafts are new sequences of known tokens.
    """

    def __init__(self, drafters, *, keep: bool, shared: bool, invents: bool) -> None:
        self.invents = invents
        self.drafters = drafters
        self.keep = keep
        self.public = pairs(PUBLIC) if shared else set()
        self.texts: list[Text] = []
        self.proposed = 0
        for drafter in drafters:
            drafter.attach(Target())

    def begin(self, tenant: int, tokens: list[int]) -> None:
        self._serve(Text(tenant, tokens), resume=False)

    def go_on(self, tenant: int, tokens: list[int]) -> None:
        """Continue the tenant's last text as a new one, as a session does."""
        before = [text for text in self.texts if text.tenant == tenant]
        if before:
            old = before[-1].context.tokens
            self._serve(Text(tenant, [*old, *tokens]), resume=True)

    def write(self, tenant: int, wanted: list[int]) -> None:
        """A round of the tenant's last text: the draft tokens that are wanted are accepted."""
        texts = [text for text in self.texts if text.tenant == tenant]
        if not texts:
            return
        text, drafter = texts[-1], self.drafters[tenant]
        context = text.context
        if drafter.serves is not context:
            drafter.start(context, resume=True)
            drafter.serves = context
        tree = drafter.propose(context, MOST, DRAWING)
        self._check(text, tree)
        tokens, parents = tree.lists()
        path, node = [], 0
        for token in wanted[:-1]:
            node = next((n for n, p in enumerate(parents) if p == node and tokens[n] == token), -1)
            if node < 0:
                break
            path.append(node)
        kept = [0, *path]
        extras = {}
        for name in drafter.wants:
            what, _, most = name.partition(":")
            rows = []
            for at in range(len(tokens)) if what == "topk-all" else kept:
                way = [at]
                while parents[way[0]] > 0:
                    way.insert(0, parents[way[0]])
                read = context.tokens + [tokens[n] for n in way if n]
                best = best_after(read, int(most))
                rows.append(best)
                text.pairs |= {(tokens[at], token) for token in best}
            extras[name] = torch.tensor(rows)
        new = wanted[: len(path) + 1]
        context.extend(new)
        text.pairs |= pairs(context.tokens)
        drafter.observe(
            context,
            Round(
                index=1,
                tree=tree,
                verdict=Verdict(path, new, []),
                tokens=tuple(new),
                kinds=("plain",) * len(new),
                pieces=("",) * len(new),
                times=Times(0.0, 0.5, 1.0, 1.0),
                end="length" if len(context) > 30 else None,
                extras=extras,
            ),
        )

    def _serve(self, text: Text, *, resume: bool) -> None:
        self.texts.append(text)
        drafter = self.drafters[text.tenant]
        drafter.start(text.context, resume=resume)
        drafter.serves = text.context

    def _check(self, text: Text, tree) -> None:
        tokens, parents = tree.lists()
        proposed = {(tokens[p], t) for p, t in zip(parents[1:], tokens[1:], strict=True)}
        known = set(self.public)
        for other in self.texts:
            # a text that is the beginning of this one can teach it nothing that is not its own
            beginning = text.context.tokens[: len(other.context)] == other.context.tokens
            if other is text or beginning or (self.keep and other.tenant == text.tenant):
                known |= other.pairs
        self.proposed += len(proposed)
        if not self.invents and not proposed <= known:
            raise Leak(proposed - known)
        if not self.public:
            assert not {t for _, t in proposed} & {*OWN[1 - text.tenant]}


class Leak(Exception):
    """A drafter proposed a pair of tokens that its tenant has nothing to do with."""


def serve(name, moves, *, keep, shared, together) -> Service:
    store = SuffixStore(64)
    store.add(PUBLIC)
    make = MADE[name]
    one: Drafter = make(keep, store if shared else None)
    drafters = (one, one if together else make(keep, store if shared else None))
    # a pair is known by its tokens: prompt lookup and the other sources have no public text
    service = Service(
        drafters, keep=keep, shared=shared and name not in INVENTS, invents=name in INVENTS
    )
    for tenant, move, choice in moves:
        alphabet = (*COMMON, *OWN[tenant])
        getattr(service, move)(tenant, [alphabet[number] for number in choice])
    return service


MOVES = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["begin", "go_on", "write", "write", "write"]),
        st.lists(st.integers(0, 7), min_size=1, max_size=8),
    ),
    min_size=4,
    max_size=16,
)


def test_every_drafter_that_learns_is_here():
    assert set(MADE) == set(registry.DRAFTERS) - WITHOUT_MEMORY


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("keep", "together"), [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("name", sorted(MADE))
@given(MOVES)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_nothing_of_one_tenant_is_proposed_to_the_other(name, keep, together, shared, moves):
    serve(name, moves, keep=keep, shared=shared, together=together)


# one tenant writes 0 1 4 5 twice, the other 0 1 and would see 4 5 next
LEAKING = [
    (0, "begin", [0, 1, 4]),
    (0, "write", [5, 0, 1, 4, 5, 6]),
    *[(0, "write", [5, 0, 1, 4])] * 30,
    (1, "begin", [0, 0, 1]),
    *[(1, "write", [1])] * 2,
]


@pytest.mark.parametrize("name", ["suffix", "ngram", "recycling", "cascade", "bandit"])
def test_the_property_sees_a_leak(name):
    # the negative control: one drafter that keeps what it learns serves both
    with pytest.raises(Leak):
        serve(name, LEAKING, keep=True, shared=False, together=True)


@pytest.mark.parametrize("name", sorted(MADE))
def test_streams_that_take_turns_share_nothing(name):
    turns = [move for move in LEAKING if move[0] == 0][:12]
    for at in range(len(turns), 1, -1):
        turns.insert(at, (1, "write", [0, 1]))
    turns.insert(1, (1, "begin", [0, 0, 1]))
    serve(name, turns, keep=False, shared=False, together=True)


@pytest.mark.parametrize("name", sorted(MADE))
def test_there_is_something_to_see(name):
    moves = [move for move in LEAKING if move[0] == 0]
    assert serve(name, moves, keep=True, shared=False, together=False).proposed > 20


def test_a_turn_away_does_not_forget_the_text():
    for name, make in MADE.items():
        service = Service(
            [make(False, None)] * 2, keep=False, shared=False, invents=name in INVENTS
        )
        service.begin(0, [0, 1, 4, 0, 1])
        for token in (4, 0, 1):
            service.write(0, [token])
        service.begin(1, [0, 1])
        service.write(1, [2])
        before = service.proposed
        service.write(0, [4])
        assert service.proposed > before, name
