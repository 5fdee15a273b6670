"""The tree drafter itself under the rejection verifiers, with every way its draws can fall."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from outpace.drafters.model import ModelDrafter
from outpace.drafters.shape import Shape
from outpace.drafters.tree import TreeDrafter
from outpace.drawing import Children, Drawing
from outpace.errors import DrawRefused
from outpace.models.tiny import tiny_model
from outpace.noise import Noise, draft_stream
from outpace.sampling import Sampler, Sampling
from outpace.testing import (
    ContractBroken,
    EnumeratedNoise,
    ToyLaw,
    emitted_law,
    enumerate_noise,
    target_law,
    total_variation,
    written_law,
)
from outpace.types import Budget, Context, Draw, Round, Times, TokenTree, Verdict
from outpace.verifiers.block import BlockVerifier
from outpace.verifiers.coupled import CoupledVerifier
from outpace.verifiers.rejection import RejectionVerifier, SequoiaVerifier

EXACT, WRONG = 1e-6, 1e-3
IID, SEQUOIA = RejectionVerifier(), SequoiaVerifier()


class ToySession:
    """A session whose logits follow from the text alone; it checks what it is told to keep."""

    forwards = nbytes = 0
    limit, observes = None, False

    def __init__(self, law: ToyLaw) -> None:
        self.tokens: list[int] = []
        self._law = law
        self._walks: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.tokens)

    def rollback(self, length: int, *, roughly: bool = False) -> None:
        self.abandon()
        del self.tokens[length:]

    def clear(self) -> None:
        self.rollback(0)

    def forget(self) -> None:
        """Keep everything."""

    def abandon(self) -> None:
        self._walks = []

    def prefill(self, tokens: Sequence[int], *, room: int = 0) -> Tensor:
        self.tokens = list(tokens)
        return self._law.logits(self.tokens)

    def append(self, tokens: Sequence[int]) -> Tensor:
        return self.prefill([*self.tokens, *map(int, tokens)])

    extend = append

    def branch(self, tokens: Tensor, parents: Sequence[int], depth: int) -> Tensor:
        above = [self._walks[parent] if parent >= 0 else [] for parent in parents]
        level = [[*walk, token] for walk, token in zip(above, tokens.tolist(), strict=True)]
        assert {len(walk) for walk in level} == {depth}
        self._walks += level
        return torch.stack([self._law.logits([*self.tokens, *walk]) for walk in level])

    def keep(self, nodes: Sequence[int], tokens: Sequence[int]) -> None:
        assert [self._walks[node] for node in nodes] == [
            list(tokens[: place + 1]) for place in range(len(nodes))
        ]
        self.tokens += tokens
        self.abandon()


MODEL = tiny_model()


def toy(drafter: ModelDrafter, law: ToyLaw) -> ModelDrafter:
    """Put a toy law in the place of the drafter's model."""
    drafter._session = ToySession(law)
    return drafter


# --- draws as forks ------------------------------------------------------------------------------


class ForkedSampler(Sampler):
    """Gumbel noise by what it is for: each order it can give the tokens of a law is a fork.

    The nodes of a level share their noise, so their draws hang together. Here one number draws for
    all of them, which binds them as closely as can be; ``apart`` draws for each by itself.
    """

    def __init__(
        self,
        context: Context,
        processors: Sequence[object],
        noise: EnumeratedNoise,
        draw: Draw,
        *,
        apart: bool = False,
    ) -> None:
        super().__init__(context, processors, greedy=False, noise=noise)
        self._draw, self._apart = draw, apart

    def gumbel(self, t: int, like: Tensor, stream: int) -> Tensor:
        """Return noise like ``like`` under which its best are what was drawn."""
        self.noise.once("draft", t, stream)
        rows = like.reshape(-1, like.shape[-1])  # [n, V]
        laws = torch.softmax(rows.double(), dim=-1).tolist()
        ways = [orders(law, 1 if self._draw == "iid" else len(law)) for law in laws]
        noise = torch.full_like(rows, -1e3)
        for row, order in enumerate(self._fall(ways)):
            for place, token in enumerate(order):
                noise[row, token] = -rows[row, token] - place
        return noise.view_as(like)

    def _fall(self, ways: list[dict[tuple[int, ...], float]]) -> list[tuple[int, ...]]:
        if self._apart:
            return [list(way)[self.noise.fork(list(way.values()))] for way in ways]
        ends = [list(itertools.accumulate(way.values())) for way in ways]
        cuts = sorted({0.0, *itertools.chain(*ends)})
        widths = [high - low for low, high in itertools.pairwise(cuts)]
        # what is this narrow is one end, rounded in two ways
        fall = self.noise.fork([width if width > 1e-12 else 0.0 for width in widths])
        middle = (cuts[fall] + cuts[fall + 1]) / 2
        return [
            list(way)[sum(end < middle for end in own[:-1])]
            for way, own in zip(ways, ends, strict=True)
        ]


def orders(law: Sequence[float], count: int) -> dict[tuple[int, ...], float]:
    """Return every draw of ``count`` tokens without replacement, in order, with its chance."""
    support = [token for token, chance in enumerate(law) if chance > 0]
    falls = {}
    for drawn in itertools.permutations(support, min(count, len(support))):
        chance, left = 1.0, 1.0
        for token in drawn[: len(support) - 1]:  # the last one has no choice
            chance, left = chance * law[token] / left, left - law[token]
        falls[drawn] = chance
    return falls


def went(accepted, depth):
    """Return a round whose tree, a chain, had so many of its levels accepted."""
    verdict = Verdict(list(range(1, accepted + 1)), [0] * (accepted + 1), [])
    tree = TokenTree.chain(0, [0] * depth)
    return Round(1, tree, verdict, (), (), (), Times(0, 0, 0, 0))


class TreeLaw:
    """Every tree the drafter draws after a text, with its probability: what laws are fed with.

    Only the first round drafts and plain decoding writes the rest: a round that keeps the law
    after one text and leaves the noise to come untouched keeps it after any.

    Args:
        shape: of the trees.
        draw: how siblings are drawn.
        law: the drafter's.
        processors: the target's.
        drawing: replaces how children are drawn.
        change: replaces a tree that was drawn.
        apart: draw for each node of a level by itself.
        shares: of the depth accepted in earlier rounds, which the shape may follow.
        budget: of a round, in nodes.
    """

    def __init__(
        self,
        shape,
        draw,
        law=None,
        *,
        processors=(),
        drawing=Drawing,
        change=lambda tree: tree,
        apart=False,
        shares=(),
        budget=63,
    ) -> None:
        self.drafter = toy(TreeDrafter(MODEL, shape), law or ToyLaw(3, seed=8))
        for accepted, depth in shares:
            self.drafter._steering.observe(went(accepted, depth))
        self._draw, self._processors, self._drawing = draw, processors, drawing
        self._change, self._apart, self._budget = change, apart, budget
        self.sizes: set[int] = set()

    def __call__(self, text: Sequence[int], depth: int) -> Iterator[tuple[TokenTree, float]]:
        if len(text) > 1:
            yield TokenTree.chain(text[-1]), 1.0
            return
        trees: dict[tuple, TokenTree] = {}
        chances: dict[tuple, float] = {}
        for tree, chance in enumerate_noise(lambda noise: self._propose(text, depth, noise)):
            key = tuple(map(tuple, tree.lists()))
            trees[key] = tree
            chances[key] = chances.get(key, 0.0) + chance
            self.sizes.add(len(tree) - 1)
        for key, chance in chances.items():
            yield self._change(trees[key]), chance

    def _propose(self, text: Sequence[int], depth: int, noise: Noise) -> TokenTree:
        context = Context(text)
        sampler = ForkedSampler(context, self._processors, noise, self._draw, apart=self._apart)
        self.drafter.start(context, resume=True)
        return self.drafter.propose(
            context, Budget(self._budget, depth), self._drawing(self._draw, sampler, 3)
        )


def law_is_off(verifier, trees: TreeLaw, *, depth=2, processors=()) -> float:
    got, own = emitted_law(
        verifier,
        ToyLaw(3, seed=3),
        trees,
        steps=depth + 1,
        depth=depth,
        processors=processors,
    )
    assert sum(got.values()) == pytest.approx(1.0, abs=1e-6)
    assert sum(own.values()) == pytest.approx(1.0, abs=1e-9)
    return total_variation(got, own)


# --- what is right -------------------------------------------------------------------------------

# how many draft tokens a tree can have shows that each shape does here what it is there for
PRUNED = "pruned(depth=2, branch=2, tau=0.3)"
BREADTH = "fixed(depth=2, branch=2) + adaptive_breadth(high=0.73, low=0.6, most=2)"
DEPTH = "fixed(depth=2, branch=2) + dynamic_depth(base=2, most=2, stop=0.4)"
ALL = (
    "pruned(depth=2, branch=2, tau=0.1, nodes=5) + adaptive_breadth(high=0.73, low=0.6, most=2)"
    " + dynamic_depth(base=1, most=2, deepen=0.2) + history(window=1)"
)
SHAPES = {
    "fixed(depth=2, branch=2)": {6},
    "fixed(depth=2, branch=2, nodes=3)": {3},
    "fixed(depth=2, branch=2, nodes=5)": {5},
    "fixed(depth=1, branch=3)": {3},
    PRUNED: {2, 4, 6},
    BREADTH: {4, 5, 6},
    DEPTH: {2, 4, 6},
    ALL: {2, 3, 4, 5},
    "best_first(depth=2, width=2, nodes=4)": {4},
    "best_first(depth=2, width=3, nodes=2)": {2},
}
VERIFIERS = pytest.mark.parametrize("verifier", [IID, SEQUOIA], ids=["iid", "sequoia"])


@VERIFIERS
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_keeps_the_law(shape, verifier):
    trees = TreeLaw(shape, verifier.siblings)
    assert law_is_off(verifier, trees) < EXACT
    # without twins there are fewer kinds of trees
    assert trees.sizes <= SHAPES[shape]
    assert len(trees.sizes) > 1 or len(SHAPES[shape]) == 1


@VERIFIERS
@pytest.mark.parametrize("shape", ["fixed(depth=2, branch=2)", PRUNED, ALL])
def test_cousins_may_be_drawn_apart(shape, verifier):
    assert law_is_off(verifier, TreeLaw(shape, verifier.siblings, apart=True)) < EXACT


@VERIFIERS
@pytest.mark.parametrize("shape", [PRUNED, BREADTH, ALL])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sharpness", [0.0, 3.0])
def test_flat_and_sharp_drafters_keep_the_law(sharpness, seed, shape, verifier):
    law = ToyLaw(3, seed=seed, sharpness=sharpness)
    assert law_is_off(verifier, TreeLaw(shape, verifier.siblings, law)) < EXACT


@VERIFIERS
@pytest.mark.parametrize(("vocabulary", "branch"), [(2, 3), (4, 2)])
def test_a_drafter_of_another_vocabulary_keeps_the_law(vocabulary, branch, verifier):
    shape = f"fixed(depth=2, branch={branch})"
    trees = TreeLaw(shape, verifier.siblings, ToyLaw(vocabulary, seed=8))
    assert law_is_off(verifier, trees) < EXACT


@VERIFIERS
def test_three_levels_and_a_budget_keep_the_law(verifier):
    trees = TreeLaw(
        "pruned(depth=3, branch=2, tau=0.25)", verifier.siblings, ToyLaw(3, seed=9), budget=5
    )
    assert law_is_off(verifier, trees, depth=3) < EXACT
    assert len(trees.sizes) > 1


@VERIFIERS
def test_a_planned_tree_keeps_the_law(verifier):
    shape = Shape(depth=2, template=((1, 2), (3,), (4, 5), (), (), ()))
    trees = TreeLaw(shape, verifier.siblings)
    assert law_is_off(verifier, trees) < EXACT
    assert trees.sizes == {5}


@VERIFIERS
@pytest.mark.parametrize("notch", [-2, -1, 0, 1, 2])
def test_history_keeps_the_law_at_every_notch(notch, verifier):
    shape = "pruned(depth=3, branch=2, tau=0.3, nodes=5) + history(window=1, step=0.1)"
    share = (2 if notch > 0 else 0, 2)
    trees = TreeLaw(shape, verifier.siblings, shares=[share] * abs(notch))
    assert trees.drafter._steering.shape_for("iid").depth == 3 + notch
    assert law_is_off(verifier, trees, depth=3) < EXACT


PROCESSED = [
    Sampling(temperature=1.0, repetition_penalty=1.7),
    Sampling(temperature=0.7, top_k=2),
    Sampling(temperature=0.8, top_p=0.8, repetition_penalty=1.4),
]


@VERIFIERS
@pytest.mark.parametrize("shape", ["fixed(depth=2, branch=2, nodes=5)", ALL])
@pytest.mark.parametrize("settings", PROCESSED, ids=["penalised", "top-k", "both"])
def test_processed_laws_are_kept(settings, shape, verifier):
    processors = settings.processors()
    trees = TreeLaw(shape, verifier.siblings, processors=processors)
    assert law_is_off(verifier, trees, processors=processors) < EXACT


# --- several rounds ------------------------------------------------------------------------------


def rounds_are_off(drafter, verifier, draw, *, steps, depth, sampler=ForkedSampler) -> float:
    """Return how far texts of several rounds are off, the drafter's memory of them included."""
    target = ToyLaw(2, seed=3)

    def write(noise: EnumeratedNoise) -> Sequence[int]:
        context = Context([0])
        drafter.start(context)
        while (left := steps - len(context.output)) > 0:
            choice = sampler(context, (), noise, draw)
            tree = drafter.propose(context, Budget(63, min(depth, left)), Drawing(draw, choice))
            verdict = verifier.verify(tree, target.at(tree, context.tokens), choice)
            context.extend(verdict.tokens)
            drafter.observe(context, turn(tree, verdict))
        return context.output[:steps]

    return total_variation(written_law(write), target_law(target, steps))


def turn(tree: TokenTree, verdict: Verdict) -> Round:
    return Round(1, tree, verdict, tuple(verdict.tokens), (), (), Times(0, 0, 0, 0))


HISTORY = "pruned(depth=2, branch=2, tau=0.3, nodes=3) + history(window=1, step=0.2)"


@VERIFIERS
def test_a_shape_that_follows_the_acceptance_keeps_the_law(verifier):
    drafter = toy(TreeDrafter(MODEL, HISTORY), ToyLaw(2, seed=8))
    assert rounds_are_off(drafter, verifier, verifier.siblings, steps=3, depth=2) < EXACT


@pytest.mark.parametrize("verifier", [IID, BlockVerifier()], ids=["iid", "block"])
def test_chains_keep_the_law_round_after_round(verifier):
    drafter = toy(ModelDrafter(MODEL), ToyLaw(2, seed=8))
    assert rounds_are_off(drafter, verifier, "iid", steps=4, depth=3) < EXACT


# --- the same text -------------------------------------------------------------------------------

MODES = {
    "greedy": Sampling(),
    "greedy, penalised": Sampling(repetition_penalty=1.5),
    "sampled": Sampling(temperature=1.0),
    "sampled, penalised": Sampling(temperature=0.8, top_k=2, repetition_penalty=1.5),
}


def texts(drafter, verifier, settings: Sampling, seed: int) -> tuple[list[int], list[int]]:
    """Return ten tokens written with the drafter, and plain decoding's."""
    target, noise, processors = ToyLaw(3, seed=seed), Noise(seed), settings.processors()

    def sampler(context: Context) -> Sampler:
        return Sampler(context, processors, greedy=settings.greedy, noise=noise)

    context, own = Context([0]), [0]
    drafter.start(context)
    draw = verifier.drawing(settings.greedy)
    while len(context) < 11:
        choice = sampler(context)
        tree = drafter.propose(context, Budget(7, 3), Drawing(draw, choice, 3))
        verdict = verifier.verify(tree, target.at(tree, context.tokens), choice)
        context.extend(verdict.tokens)
        drafter.observe(context, turn(tree, verdict))
    while len(own) < 11:
        own.append(int(sampler(Context(own)).choose(target.logits(own))))
    return context.tokens[:11], own


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_coupled_text_is_plain_with_every_shape(shape, mode):
    drafter = toy(TreeDrafter(MODEL, shape), ToyLaw(3, seed=8))
    for seed in range(25):
        text, own = texts(drafter, CoupledVerifier(), MODES[mode], seed)
        assert text == own


@VERIFIERS
@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_text_is_plain_with_every_shape(shape, verifier):
    drafter = toy(TreeDrafter(MODEL, shape), ToyLaw(3, seed=8))
    for seed in range(10):
        for mode in ("greedy", "greedy, penalised"):
            text, own = texts(drafter, verifier, MODES[mode], seed)
            assert text == own


# --- what is wrong, and must be seen -------------------------------------------------------------


class Told(Drawing):
    """A drawing whose children are misreported."""

    def children(self, logits, paths, count):
        return self.tell(super().children(logits, paths, count))


class WithoutImprobable(Told):
    """The mistake: a drawn token is dropped for its own probability."""

    def tell(self, drawn: Children) -> Children:
        improbable = drawn.scores.exp() < 0.25
        return replace(drawn, scores=drawn.scores.masked_fill(improbable, -torch.inf))


class ByProbability(Told):
    """The mistake: siblings stand by their probability, not in the order they were drawn."""

    def tell(self, drawn: Children) -> Children:
        scores, order = drawn.scores.sort(dim=-1, descending=True, stable=True)
        return replace(drawn, tokens=drawn.tokens.gather(-1, order), scores=scores)


class RowOfACousin(Told):
    """The mistake: the law of another node of the level."""

    def tell(self, drawn: Children) -> Children:
        return replace(drawn, log_q=drawn.log_q.flip(0))


class BreadthByLast(Told):
    """The mistake: how many children a node has follows from the one that may go."""

    def tell(self, drawn: Children) -> Children:
        return replace(drawn, best=drawn.scores[:, -1].exp())


class BreadthByFirst(Told):
    """No mistake: whether there is a second draw may follow from the first."""

    def tell(self, drawn: Children) -> Children:
        return replace(drawn, best=drawn.scores[:, 0].exp())


class LawKept(Drawing):
    """The mistake: a tree pruned by what was drawn claims the law."""

    def without_law(self) -> Drawing:
        return self


FIXED, BEST = "fixed(depth=2, branch=2)", "best_first(depth=1, width=3, nodes=2)"
BROAD = "fixed(depth=2, branch=2) + adaptive_breadth(high=0.3, low=0.3, most=2)"


@VERIFIERS
@pytest.mark.parametrize(
    ("shape", "drawing"),
    [
        (FIXED, WithoutImprobable),
        (FIXED, ByProbability),
        (FIXED, RowOfACousin),
        (BROAD, BreadthByLast),
        (BEST, LawKept),
    ],
)
def test_mistakes_in_drawing_are_seen(shape, drawing, verifier):
    assert law_is_off(verifier, TreeLaw(shape, verifier.siblings)) < EXACT
    assert law_is_off(verifier, TreeLaw(shape, verifier.siblings, drawing=drawing)) > WRONG


@VERIFIERS
def test_breadth_may_follow_the_first_child_drawn(verifier):
    trees = TreeLaw(BROAD, verifier.siblings, drawing=BreadthByFirst)
    assert law_is_off(verifier, trees) < EXACT
    assert len(trees.sizes) > 1


def relabelled(draw: Draw):
    return lambda tree: replace(tree, draw=draw)


@pytest.mark.parametrize(
    ("drawn", "told"), [("iid", "without_replacement"), ("without_replacement", "iid")]
)
def test_a_tree_relabelled_is_seen(drawn, told):
    trees = TreeLaw(FIXED, drawn, change=relabelled(told))
    assert law_is_off(IID, trees) > WRONG


class DraftsByPlace(ForkedSampler):
    """The mistake: a place drafted in two rounds has the same noise in both."""

    def draft_gumbel(self, depth: int, like: Tensor, index: int = 0) -> Tensor:
        return self.gumbel(len(self.context) + depth, like, draft_stream(0, index))


def test_drafts_that_two_rounds_share_are_seen():
    drafter = toy(ModelDrafter(MODEL), ToyLaw(2, seed=8))
    with pytest.raises(ContractBroken, match="used twice"):
        rounds_are_off(drafter, IID, "iid", steps=3, depth=2, sampler=DraftsByPlace)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verifier", "draw", "words"),
    [
        (IID, "coupled", "RejectionVerifier cannot treat a tree drawn as 'coupled'"),
        (SEQUOIA, "coupled", "SequoiaVerifier cannot treat a tree drawn as 'coupled'"),
        (BlockVerifier(), "iid", "block verification takes chains only"),
        (BlockVerifier(), "without_replacement", "cannot treat a tree drawn as 'without"),
    ],
)
def test_trees_a_verifier_cannot_treat_are_refused(verifier, draw, words):
    context = Context([0])
    sampler = Sampler(context, (), greedy=False, noise=Noise(1))
    drafter = toy(TreeDrafter(MODEL, FIXED), ToyLaw(3, seed=8))
    drafter.start(context)
    tree = drafter.propose(context, Budget(63, 2), Drawing(draw, sampler, 3))
    assert len(tree) == 7
    with pytest.raises(DrawRefused, match=words) as caught:
        verifier.verify(tree, ToyLaw(3, seed=3).at(tree, [0]), sampler)
    assert "\n" not in str(caught.value)
