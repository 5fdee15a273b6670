"""Verification laws, enumerated exactly in float64, and the mistakes that must be caught."""

import itertools
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from outpace.errors import DrawRefused, InvalidArgument
from outpace.sampling import Noise, Sampler, Stream
from outpace.testing import (
    ContractBroken,
    EnumeratedNoise,
    ToyLaw,
    check_verifier,
    emitted_law,
    enumerate_noise,
    iid_chains,
    total_variation,
)
from outpace.types import Context, TokenTree, Verdict
from outpace.verifiers.coupled import CoupledVerifier
from outpace.verifiers.rejection import RejectionVerifier

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
        RejectionVerifier(), iid_chains(drafter), vocabulary=vocabulary, depth=depth, steps=steps
    )
    assert off < EXACT


def test_rejection_keeps_the_law_when_the_drafter_is_the_target():
    assert law_is_off(RejectionVerifier(), iid_chains(ToyLaw(4, seed=3))) < EXACT


def fixed_chain(text: Sequence[int], depth: int) -> Iterator[tuple[TokenTree, float]]:
    """A drafter without a law: what it drafts follows from the text."""
    drafted = [(sum(text) + place) % 4 for place in range(depth)]
    yield TokenTree.chain(text[-1], drafted), 1.0


def test_rejection_keeps_the_law_of_deterministic_drafts():
    assert law_is_off(RejectionVerifier(), fixed_chain) < EXACT


def test_public_checks_pass():
    check_verifier(CoupledVerifier)
    check_verifier(RejectionVerifier)


# --- what is wrong, and must be seen -------------------------------------------------------------


def test_skip_sample_adjustment_is_biased_and_says_so():
    verifier = RejectionVerifier(skip_sample_adjustment=True)
    assert not verifier.exact
    assert law_is_off(verifier, iid_chains(ToyLaw(4, seed=8))) > WRONG
    with pytest.raises(ContractBroken, match="the law is off by"):
        check_verifier(lambda: RejectionVerifier(skip_sample_adjustment=True))


def test_a_wrong_q_is_seen():
    told = iid_chains(ToyLaw(4, seed=9))

    def propose(text, depth):
        # drawn from one law, reported with another
        for (tree, _), (_, chance) in zip(
            told(text, depth), iid_chains(ToyLaw(4, seed=8))(text, depth), strict=True
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
    whole = iid_chains(ToyLaw(4, seed=8))

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
        law_is_off(TwoPurposes(), iid_chains(ToyLaw(4, seed=8)))


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


def test_rejection_refuses_draws_it_cannot_treat():
    sampler = Sampler(Context([0]), [], greedy=False, noise=Noise(0))
    logits = torch.zeros(3, 4)
    for draw in ("coupled", "without_replacement"):
        with pytest.raises(DrawRefused, match=draw):
            RejectionVerifier().verify(TokenTree.chain(0, [1, 2], draw=draw), logits, sampler)
    fork = TokenTree(torch.tensor([0, 1, 2]), torch.tensor([-1, 0, 0]))
    with pytest.raises(DrawRefused, match="chains only"):
        RejectionVerifier().verify(fork, logits, sampler)
    with pytest.raises(InvalidArgument, match="log_q"):
        RejectionVerifier().verify(TokenTree.chain(0, [1, 2], draw="iid"), logits, sampler)


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
