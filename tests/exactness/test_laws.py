"""Verification laws, enumerated exactly in float64, and the mistakes that must be caught."""

import itertools
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from outpace.errors import DrawRefused, InvalidArgument
from outpace.noise import Noise, Stream
from outpace.sampling import Sampler
from outpace.testing import (
    ContractBroken,
    EnumeratedNoise,
    ToyLaw,
    check_verifier,
    drawn_trees,
    emitted_law,
    enumerate_noise,
    total_variation,
)
from outpace.types import Context, TokenTree, Verdict
from outpace.verifiers.block import BlockVerifier
from outpace.verifiers.coupled import CoupledVerifier
from outpace.verifiers.rejection import RejectionVerifier, SequoiaVerifier

EXACT, WRONG = 1e-6, 1e-2


def law_is_off(verifier, propose, *, vocabulary=4, depth=2, steps=3) -> float:
    got, own = emitted_law(verifier, ToyLaw(vocabulary, seed=3), propose, steps=steps, depth=depth)
    assert sum(got.values()) == pytest.approx(1.0, abs=1e-9)
    assert sum(own.values()) == pytest.approx(1.0, abs=1e-9)
    return total_variation(got, own)


# --- what is right ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vocabulary", "depth", "steps"), [(4, 1, 2), (4, 2, 3), (5, 2, 3), (6, 2, 3), (4, 3, 3)]
)
@pytest.mark.parametrize("sharpness", [0.0, 1.0, 4.0])
def test_rejection_keeps_the_law(vocabulary, depth, steps, sharpness):
    drafter = ToyLaw(vocabulary, seed=8, sharpness=sharpness)
    off = law_is_off(
        RejectionVerifier(), drawn_trees(drafter), vocabulary=vocabulary, depth=depth, steps=steps
    )
    assert off < EXACT


def test_rejection_keeps_the_law_when_the_drafter_is_the_target():
    assert law_is_off(RejectionVerifier(), drawn_trees(ToyLaw(4, seed=3))) < EXACT


def fixed_chain(text: Sequence[int], depth: int) -> Iterator[tuple[TokenTree, float]]:
    """A drafter without a law: what it drafts follows from the text."""
    drafted = [(sum(text) + place) % 4 for place in range(depth)]
    yield TokenTree.chain(text[-1], drafted), 1.0


def test_rejection_keeps_the_law_of_deterministic_drafts():
    assert law_is_off(RejectionVerifier(), fixed_chain) < EXACT


TREES = [(4, (3,), 1), (3, (3,), 1), (3, (2, 1), 2), (3, (1, 2), 2), (2, (2, 2), 2)]


@pytest.mark.parametrize("draw", ["iid", "without_replacement"])
@pytest.mark.parametrize(("vocabulary", "branches", "depth"), TREES)
def test_rejection_keeps_the_law_of_trees(vocabulary, branches, depth, draw):
    propose = drawn_trees(ToyLaw(vocabulary, seed=8), branches, draw)
    off = law_is_off(
        SequoiaVerifier(), propose, vocabulary=vocabulary, depth=depth, steps=depth + 1
    )
    assert off < EXACT


@pytest.mark.parametrize("sharpness", [0.0, 4.0])
@pytest.mark.parametrize("draw", ["iid", "without_replacement"])
def test_rejection_keeps_the_law_of_trees_from_flat_and_sharp_laws(sharpness, draw):
    propose = drawn_trees(ToyLaw(3, seed=8, sharpness=sharpness), (2, 1), draw)
    assert law_is_off(RejectionVerifier(), propose, vocabulary=3) < EXACT


@pytest.mark.parametrize("draw", ["iid", "without_replacement"])
def test_rejection_keeps_the_law_when_the_target_draws_the_tree(draw):
    propose = drawn_trees(ToyLaw(3, seed=3), (2, 1), draw)
    assert law_is_off(RejectionVerifier(), propose, vocabulary=3) < EXACT


def fixed_tree(text: Sequence[int], depth: int) -> Iterator[tuple[TokenTree, float]]:
    """A drafter without a law that guesses two tokens at every place, one of them twice."""
    tokens, parents, level = [text[-1]], [-1], [0]
    for place in range(depth):
        below = []
        for node in level:
            for step in (0, 2, 0):
                below.append(len(tokens))
                tokens.append((sum(text) + place + step) % 4)
                parents.append(node)
        level = below
    yield TokenTree(torch.tensor(tokens), torch.tensor(parents)), 1.0


def test_rejection_keeps_the_law_of_deterministic_trees():
    assert law_is_off(RejectionVerifier(), fixed_tree) < EXACT


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("sharpness", [0.0, 1.0, 4.0])
def test_block_verification_keeps_the_law(depth, sharpness):
    propose = drawn_trees(ToyLaw(3, seed=8, sharpness=sharpness))
    off = law_is_off(BlockVerifier(), propose, vocabulary=3, depth=depth, steps=depth + 1)
    assert off < EXACT


def test_block_verification_keeps_the_law_of_itself_and_of_deterministic_chains():
    assert law_is_off(BlockVerifier(), drawn_trees(ToyLaw(4, seed=3))) < EXACT
    assert law_is_off(BlockVerifier(), fixed_chain) < EXACT


def accepted(verifier, target: ToyLaw, propose, depth: int) -> float:
    """Return the expected number of accepted tokens of one round."""
    total = 0.0
    for tree, chance in propose([0], depth):
        logits = target.at(tree, [0])

        def run(noise, tree=tree, logits=logits):
            sampler = Sampler(Context([0]), [], greedy=False, noise=noise)
            return verifier.verify(tree, logits, sampler)

        total += chance * sum(len(one.path) * fall for one, fall in enumerate_noise(run))
    return total


def test_block_verification_accepts_more_and_never_less():
    gains = []
    for seed in range(6):
        target, propose = ToyLaw(3, seed=seed), drawn_trees(ToyLaw(3, seed=seed + 50))
        block = accepted(BlockVerifier(), target, propose, 3)
        gains.append(block - accepted(RejectionVerifier(), target, propose, 3))
    assert min(gains) > -1e-9
    assert max(gains) > 0.02


def test_more_children_accept_more():
    target, drafter = ToyLaw(4, seed=3), ToyLaw(4, seed=8)
    for draw in ("iid", "without_replacement"):
        one, two, three = (
            accepted(RejectionVerifier(), target, drawn_trees(drafter, (n,), draw), 1)
            for n in (1, 2, 3)
        )
        assert one < two < three


def greedy_text(verifier, target: ToyLaw, seed: int) -> tuple[list[int], list[int]]:
    """Return eight greedy tokens under a verifier that is given random trees, and the true ones."""
    generator = torch.Generator().manual_seed(seed)
    text = [0]
    while len(text) < 9:
        chain = torch.randint(target.vocabulary, (3,), generator=generator).tolist()
        tree = TokenTree.chain(text[-1], chain)
        sampler = Sampler(Context(text), [], greedy=True, noise=Noise(seed))
        text += verifier.verify(tree, target.at(tree, text), sampler).tokens
    own = [0]
    while len(own) < 9:
        own.append(int(target.logits(own).argmax()))
    return text[:9], own


@pytest.mark.parametrize("verifier", [RejectionVerifier, SequoiaVerifier, BlockVerifier])
def test_greedy_text_is_plain_under_any_law_verifier(verifier):
    for seed in range(100):
        text, own = greedy_text(verifier(), ToyLaw(3, seed=seed), seed)
        assert text == own


def test_public_checks_pass():
    check_verifier(CoupledVerifier)
    check_verifier(RejectionVerifier)
    check_verifier(SequoiaVerifier)
    check_verifier(BlockVerifier)


# --- what is wrong, and must be seen -------------------------------------------------------------


def test_skip_sample_adjustment_is_biased_and_says_so():
    verifier = RejectionVerifier(skip_sample_adjustment=True)
    assert not verifier.exact
    assert law_is_off(verifier, drawn_trees(ToyLaw(4, seed=8))) > WRONG
    with pytest.raises(ContractBroken, match="the law is off by"):
        check_verifier(lambda: RejectionVerifier(skip_sample_adjustment=True))


def test_a_wrong_q_is_seen():
    told = drawn_trees(ToyLaw(4, seed=9))

    def propose(text, depth):
        # drawn from one law, reported with another
        for (tree, _), (_, chance) in zip(
            told(text, depth), drawn_trees(ToyLaw(4, seed=8))(text, depth), strict=True
        ):
            yield tree, chance

    assert law_is_off(RejectionVerifier(), propose) > WRONG


def test_a_greedy_draft_with_the_whole_softmax_as_q_is_seen():
    drafter = ToyLaw(4, seed=8)

    def propose(text, depth):
        drafted, rows = [], []
        for _ in range(depth):
            log_q = torch.log_softmax(drafter.logits([*text, *drafted]).double(), dim=-1)
            drafted.append(int(log_q.argmax()))
            rows.append(log_q)
        yield TokenTree.chain(text[-1], drafted, draw="iid", log_q=torch.stack(rows)), 1.0

    assert law_is_off(RejectionVerifier(), propose) > WRONG


def test_dropping_draft_tokens_for_their_own_low_q_is_seen():
    whole = drawn_trees(ToyLaw(4, seed=8))

    def propose(text, depth):
        for tree, chance in whole(text, depth):
            tokens, _ = tree.lists()
            rows = list(tree.log_q)
            kept = 0
            while kept < depth and float(rows[kept][tokens[kept + 1]].exp()) > 0.2:
                kept += 1
            log_q = torch.stack(rows[:kept]) if kept else None
            yield TokenTree.chain(tokens[0], tokens[1 : kept + 1], draw="iid", log_q=log_q), chance

    assert law_is_off(RejectionVerifier(), propose) > WRONG


def changed(propose, change):
    """Return a drafter whose every tree is changed after it was drawn."""

    def wrong(text, depth):
        for tree, chance in propose(text, depth):
            yield change(tree), chance

    return wrong


def relabelled(draw):
    return lambda tree: TokenTree(tree.tokens, tree.parents, draw, tree.log_q, tree.is_chain)


def siblings_by_law(tree: TokenTree) -> TokenTree:
    """The mistake: the most probable sibling is tried first, not the one drawn first."""
    tokens, _ = tree.lists()
    order = sorted(range(1, len(tree)), key=lambda node: -float(tree.log_q[0][tokens[node]]))
    return TokenTree(tree.tokens[[0, *order]], tree.parents, tree.draw, tree.log_q)


def without_twins(tree: TokenTree) -> TokenTree:
    """The mistake: of equal independent siblings only one is kept."""
    tokens, _ = tree.lists()
    kept = [0, *sorted({tokens.index(token, 1) for token in tokens[1:]})]
    return TokenTree(tree.tokens[kept], tree.parents[kept], tree.draw, tree.log_q)


def without_improbable(tree: TokenTree) -> TokenTree:
    """The mistake: a drawn token is dropped because its own probability is low."""
    tokens, _ = tree.lists()
    kept = [0] + [n for n in range(1, len(tree)) if float(tree.log_q[0][tokens[n]].exp()) > 0.2]
    return TokenTree(tree.tokens[kept], tree.parents[kept], tree.draw, tree.log_q)


@pytest.mark.parametrize(
    ("draw", "change"),
    [
        ("without_replacement", relabelled("iid")),  # as a coupled tree would be
        ("iid", relabelled("without_replacement")),
        ("without_replacement", siblings_by_law),
        ("iid", without_twins),
        ("iid", without_improbable),
        ("without_replacement", without_improbable),
    ],
)
def test_mistakes_with_siblings_are_seen(draw, change):
    right = drawn_trees(ToyLaw(4, seed=8), (3,), draw)
    assert law_is_off(RejectionVerifier(), right, depth=1, steps=1) < EXACT
    # some of these biases are small, yet a thousand times what rounding does
    assert law_is_off(RejectionVerifier(), changed(right, change), depth=1, steps=1) > 1e-3


@pytest.mark.parametrize("draw", ["iid", "without_replacement"])
def test_a_pruned_tree_is_deterministic_and_then_exact(draw):
    def pruned(tree):
        return relabelled("deterministic")(without_improbable(tree))

    propose = changed(drawn_trees(ToyLaw(4, seed=8), (3,), draw), pruned)
    assert law_is_off(RejectionVerifier(), propose, depth=1, steps=2) < EXACT


def test_drawing_again_from_the_whole_law_after_an_ngram_is_seen():
    assert law_is_off(RejectionVerifier(skip_sample_adjustment=True), fixed_chain) > WRONG


class TokenByTokenWeights(BlockVerifier):
    """The mistake: the extra token after a block comes from the residual of the last token."""

    def verify(self, tree, logits, sampler):
        verdict = super().verify(tree, logits, sampler)
        done = len(verdict.path)
        if done + 1 == len(tree):
            return verdict
        p = sampler.probabilities(logits[done], verdict.tokens[:-1])
        left = (p - tree.log_q[done].double().exp()).clamp_(min=0)
        noise = sampler.noise
        extra = noise.draw(left if float(left.sum()) > 0 else p, 1000 + len(sampler.context))
        return Verdict(verdict.path, [*verdict.tokens[:-1], extra], verdict.choices)


def test_a_block_with_the_residual_of_one_token_is_seen():
    target, drafter = (ToyLaw(3, seed=seed, sharpness=2.0) for seed in (5, 13))
    for verifier, wrong in ((BlockVerifier(), False), (TokenByTokenWeights(), True)):
        law, own = emitted_law(verifier, target, drawn_trees(drafter), steps=3, depth=2)
        off = total_variation(law, own)
        assert off > WRONG if wrong else off < EXACT


class GreedyByRatio(RejectionVerifier):
    """The mistake: greedy text by p/q on whole laws, then the argmax of the residual."""

    def verify(self, tree, logits, sampler):
        tokens, _ = tree.lists()
        emitted: list[int] = []
        for node in range(len(tree)):
            p = torch.softmax(logits[node].double(), dim=-1)
            if node + 1 == len(tree):
                return Verdict([*range(1, node + 1)], [*emitted, int(p.argmax())], [])
            q = torch.full_like(p, 1 / len(p))
            if sampler.noise.accept(float(p[tokens[node + 1]] / q[0]), node):
                emitted.append(tokens[node + 1])
                continue
            extra = int((p - q).clamp(min=0).argmax())
            return Verdict([*range(1, node + 1)], [*emitted, extra], [])
        raise AssertionError


def test_greedy_by_ratio_is_seen():
    wrong = sum(
        text != own
        for text, own in (
            greedy_text(GreedyByRatio(), ToyLaw(3, seed=seed), seed) for seed in range(40)
        )
    )
    assert wrong > 20


class NoiseByNode(CoupledVerifier):
    """The mistake: noise indexed by node instead of by place in the text."""

    def verify(self, tree: TokenTree, logits: Tensor, sampler: Sampler) -> Verdict:
        class ByNode(Sampler):
            def choose(self, row, path=()):
                node = next(i for i in range(len(logits)) if logits[i] is row or row is rows[i])
                noise = self.noise.gumbel([node], len(row), row.device, Stream.COUPLED)[0]
                return torch.argmax(self.scores(row, path) + noise * (not self.greedy))

        rows = list(logits)

        class Rows:
            device = logits.device

            def numel(self):
                return 1 << 30  # too many to look at all of them

            def __getitem__(self, node):
                return rows[node]

            def __len__(self):
                return len(rows)

            def __iter__(self):
                return iter(rows)

        logits = Rows()
        wrong = ByNode(sampler.context, [], greedy=sampler.greedy, noise=sampler.noise)
        if sampler.greedy:
            return super().verify(tree, torch.stack(rows), sampler)
        return super().verify(tree, logits, wrong)


def test_noise_by_node_is_seen():
    with pytest.raises(ContractBroken, match="plain writes"):
        check_verifier(NoiseByNode)


def test_noise_used_twice_is_seen_in_the_enumeration():
    class TwoPurposes(RejectionVerifier):
        """The mistake: the residual is drawn with noise that has served already."""

        def verify(self, tree, logits, sampler):
            verdict = super().verify(tree, logits, sampler)
            sampler.noise.draw(torch.ones(4), len(sampler.context) + len(verdict.path))
            return verdict

    with pytest.raises(ContractBroken, match="used twice"):
        law_is_off(TwoPurposes(), drawn_trees(ToyLaw(4, seed=8)))


class TestsByPlace(BlockVerifier):
    """The mistake: a prefix is tested by its place in the text, which the next round tests too."""

    def verify(self, tree, logits, sampler):
        class ByPlace(EnumeratedNoise):
            def __init__(self, inner):
                self.fork, self.once, self.draw = inner.fork, inner.once, inner.draw

            def accept(self, probability, t, index=0):
                return super().accept(probability, t + index - 1)

        noise = ByPlace(sampler.noise)
        return super().verify(tree, logits, Sampler(sampler.context, [], greedy=False, noise=noise))


def test_noise_that_two_rounds_share_is_seen():
    assert law_is_off(TestsByPlace(), drawn_trees(ToyLaw(4, seed=8))) < EXACT  # round by round
    with pytest.raises(ContractBroken, match="used twice"):
        check_verifier(TestsByPlace)


P, Q = torch.tensor([0.1, 0.6, 0.3]), torch.tensor([0.5, 0.45, 0.05])


def one_step_counts(noise_of, draws: int) -> Tensor:
    """First tokens of rounds with one draft token, under real noise: counts ``[3]``."""
    counts = torch.zeros(3, dtype=torch.float64)
    verifier = RejectionVerifier()
    for seed in range(draws):
        sampler = Sampler(Context([0]), [], greedy=False, noise=noise_of(seed))
        token, log_q = sampler.draw_iid(Q.log())
        tree = TokenTree.chain(0, [int(token)], draw="iid", log_q=log_q[None])
        verdict = verifier.verify(tree, torch.stack([P.log(), P.log()]), sampler)
        counts[verdict.tokens[0]] += 1
    return counts


def chi_square(counts: Tensor) -> float:
    expected = P.double() * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


class OneStream(Noise):
    """The mistake: drafts, residuals and choices share one stream."""

    def gumbel(self, ts, size, device, stream):
        return super().gumbel(ts, size, device, Stream.COUPLED)


def test_real_noise_keeps_the_law_and_one_stream_for_two_purposes_does_not():
    # 2 degrees of freedom: 18.4 is exceeded once in 10,000
    assert chi_square(one_step_counts(Noise, 6000)) < 18.4
    assert chi_square(one_step_counts(OneStream, 6000)) > 50


# --- what is refused -----------------------------------------------------------------------------


def test_verifiers_refuse_draws_they_cannot_treat():
    sampler = Sampler(Context([0]), [], greedy=False, noise=Noise(0))
    logits = torch.zeros(3, 4)
    for verifier in (RejectionVerifier(), SequoiaVerifier(), BlockVerifier()):
        with pytest.raises(DrawRefused, match="coupled"):
            verifier.verify(TokenTree.chain(0, [1, 2], draw="coupled"), logits, sampler)
        with pytest.raises(InvalidArgument, match="log_q"):
            verifier.verify(TokenTree.chain(0, [1, 2], draw="iid"), logits, sampler)
    with pytest.raises(DrawRefused, match="without_replacement"):
        BlockVerifier().verify(
            TokenTree.chain(0, [1, 2], draw="without_replacement"), logits, sampler
        )
    fork = TokenTree(torch.tensor([0, 1, 2]), torch.tensor([-1, 0, 0]))
    with pytest.raises(DrawRefused, match="chains only"):
        BlockVerifier().verify(fork, logits, sampler)


def test_enumerate_noise_visits_every_fall_once():
    def run(noise):
        return (noise.accept(0.25, 1), noise.draw(torch.tensor([1.0, 3.0]), 2))

    falls = dict(enumerate_noise(run))
    assert falls == {
        fall: pytest.approx(one * two)
        for (fall, one, two) in (
            ((yes, token), 0.25 if yes else 0.75, (0.25, 0.75)[token])
            for yes, token in itertools.product((True, False), (0, 1))
        )
    }
    with pytest.raises(ContractBroken, match="accept\\(\\) and draw"):
        EnumeratedNoise([]).gumbel([0], 4, torch.device("cpu"), 0)
