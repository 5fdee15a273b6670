"""The noise generator and the sampler."""

import math

import pytest
import torch

from outpace.errors import InvalidArgument, StatefulProcessor
from outpace.noise import Noise, Stream, hash_rows, noise_key
from outpace.sampling import Sampler, Sampling, fresh_seed, refuse_stateful
from outpace.types import Context, TokenTree

CPU = torch.device("cpu")
CELLS = 256
# chi-square with 255 degrees of freedom lies within these bounds all but once in 10⁵
LOW, HIGH = 165.0, 365.0


def chi_square(values: torch.Tensor) -> float:
    """Of numbers in [0, 1) against the uniform law, in 256 cells."""
    counts = torch.bincount((values * CELLS).long().clamp(max=CELLS - 1), minlength=CELLS).double()
    expected = values.numel() / CELLS
    return float(((counts - expected) ** 2 / expected).sum())


def uniform_from_gumbel(noise: torch.Tensor) -> torch.Tensor:
    return torch.exp(-torch.exp(-noise.double()))


@pytest.mark.parametrize("stream", list(Stream))
@pytest.mark.parametrize("seed", [0, 1, 2**31, -5])
def test_rows_are_uniform(seed, stream):
    rows = Noise(seed).gumbel(range(20), 5000, CPU, stream)
    assert rows.dtype == torch.float32
    assert torch.isfinite(rows).all()
    assert LOW < chi_square(uniform_from_gumbel(rows.flatten())) < HIGH


def test_columns_seeds_and_streams_are_uniform():
    by_time = Noise(3).gumbel(range(100_000), 1, CPU, Stream.COUPLED)
    by_seed = torch.cat([Noise(s).gumbel([7], 1, CPU, Stream.COUPLED) for s in range(20_000)])
    single = torch.tensor([Noise(3).uniform(t, 0, Stream.ACCEPT) for t in range(50_000)])
    indexed = torch.tensor([Noise(3).uniform(1, j, Stream.ACCEPT) for j in range(50_000)])
    for values in (uniform_from_gumbel(by_time), uniform_from_gumbel(by_seed), single, indexed):
        assert LOW < chi_square(values.flatten()) < HIGH


def correlation(one: torch.Tensor, two: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.double(), two.double()]))[0, 1])


def test_no_serial_correlation_in_any_direction():
    rows = uniform_from_gumbel(Noise(1).gumbel(range(400), 1000, CPU, Stream.COUPLED))
    limit = 5 / math.sqrt(rows.numel())
    for lag in (1, 2, 7, 64):
        assert abs(correlation(rows[:, lag:].flatten(), rows[:, :-lag].flatten())) < limit
        assert abs(correlation(rows[lag:].flatten(), rows[:-lag].flatten())) < limit
    for seed, stream in ((2, Stream.COUPLED), (1, Stream.RESIDUAL), (1, Stream.DRAFT)):
        other = uniform_from_gumbel(Noise(seed).gumbel(range(400), 1000, CPU, stream))
        assert abs(correlation(rows.flatten(), other.flatten())) < limit


def test_a_bad_generator_is_seen():
    # the negative control: a 16-bit multiplicative generator in the place of ours
    state, values = 1, []
    for _ in range(100_000):
        state = state * 75 % 65537
        values.append(state / 65537)
    weak = torch.tensor(values)
    assert not LOW < chi_square(weak) < HIGH
    rows = uniform_from_gumbel(Noise(1).gumbel(range(100), 1000, CPU, Stream.COUPLED))
    shifted = rows.roll(1, dims=0)
    assert abs(correlation(rows[1:].flatten(), shifted[1:].flatten() + rows[1:].flatten())) > 0.5


def test_values_do_not_repeat_across_rows():
    # of 50,000 values of 32 bits hardly one is due twice; a 32-bit state repeats whole stretches
    keys = torch.tensor([noise_key(0, 0, t) - 2**63 for t in range(50)])
    bits = hash_rows(keys, 1000)
    assert bits.min() >= 0
    assert bits.max() < 2**32
    assert len(torch.unique(bits)) > bits.numel() - 10


def test_the_tail_is_there():
    rows = Noise(0).gumbel(range(400), 10_000, CPU, Stream.COUPLED)
    # the largest of 4 million Gumbels lies near log(4e6) = 15.2, and 32 bits end at 22.9
    assert 13 < float(rows.max()) < 21
    assert float(rows.min()) < -2.3


def test_noise_is_a_function_of_its_coordinates():
    whole = Noise(5).gumbel([10, 11, 12], 300, CPU, Stream.COUPLED)
    assert torch.equal(whole[1], Noise(5).gumbel([11], 300, CPU, Stream.COUPLED)[0])
    # the size of the vocabulary does not matter: a drafter may have fewer rows than the target
    assert torch.equal(whole[1, :200], Noise(5).gumbel([11], 200, CPU, Stream.COUPLED)[0])
    assert not torch.equal(whole[0], whole[1])


def test_the_choice_follows_the_law():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    law = torch.softmax(logits.double(), dim=-1)
    noise = Noise(0).gumbel(range(20_000), 4, CPU, Stream.COUPLED)
    counts = torch.bincount(torch.argmax(logits + noise, dim=-1), minlength=4).double()
    expected = law * 20_000
    assert float(((counts - expected) ** 2 / expected).sum()) < 21.1


def sampler(greedy=False, **settings) -> Sampler:
    chosen = Sampling(temperature=0.0 if greedy else 0.8, seed=4, **settings)
    return Sampler(Context([1, 2, 3, 1, 2]), chosen.processors(), greedy=greedy, noise=Noise(4))


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize(
    "settings", [{}, {"repetition_penalty": 1.5}, {"no_repeat_ngram_size": 2, "top_k": 3}]
)
def test_choosing_all_nodes_is_choosing_each(greedy, settings):
    tree = TokenTree(torch.tensor([2, 3, 4, 5, 3]), torch.tensor([-1, 0, 0, 1, 3]))
    chain = TokenTree.chain(2, [3, 5, 4, 1])
    for one in (tree, chain):
        logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(1))
        paths = {0: []}
        tokens, parents = one.lists()
        for node in range(1, 5):
            paths[node] = [*paths[parents[node]], tokens[node]]
        draw = sampler(greedy, **settings)
        each = [int(draw.choose(logits[node], paths[node])) for node in range(5)]
        assert draw.choose_all(one, logits).tolist() == each


def test_the_path_reaches_the_processors():
    draw = sampler(True, no_repeat_ngram_size=2)
    logits = torch.zeros(9)
    logits[3] = 1.0
    assert int(draw.choose(logits)) != 3  # 2 → 3 stands in the prompt
    assert int(draw.choose(logits, [5])) == 3
    assert int(draw.choose(logits, [5, 2])) != 3


def test_probabilities_are_those_of_the_processed_scores():
    logits = torch.tensor([1.0, 0.5, 0.0, -9.0])
    law = sampler(top_k=2).probabilities(logits)
    assert law.dtype == torch.float64
    assert law.tolist() == pytest.approx(
        [*torch.softmax(torch.tensor([1.0, 0.5]).double() / 0.8, dim=-1).tolist(), 0, 0], rel=1e-6
    )
    assert sampler(True).probabilities(logits).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"temperature": math.nan}, "temperature nan"),
        ({"temperature": math.inf}, "temperature inf"),
        ({"top_k": 0}, "top-k 0"),
        ({"top_p": 1.5}, "top-p 1.5"),
        ({"top_p": 0.0}, "top-p 0.0"),
        ({"min_p": -0.1}, "min-p -0.1"),
        ({"typical_p": 0.0}, "typical-p 0.0"),
        ({"repetition_penalty": 0.0}, "repetition penalty 0.0"),
        ({"no_repeat_ngram_size": -1}, "no-repeat-ngram size -1"),
        ({"bad_words": ((),)}, "empty token sequence"),
        ({"seed": 2**64}, "seed 18446744073709551616"),
    ],
)
def test_values_out_of_range_are_named(settings, words):
    with pytest.raises(InvalidArgument, match=words):
        Sampling(**settings)


def test_stateful_processors_are_refused():
    import transformers as hf

    for name in (
        "WatermarkLogitsProcessor",
        "SynthIDTextWatermarkLogitsProcessor",
        "UnbatchedClassifierFreeGuidanceLogitsProcessor",
    ):
        assert hasattr(hf, name)
        processor = object.__new__(getattr(hf, name))
        with pytest.raises(StatefulProcessor, match=name):
            refuse_stateful([processor])


def test_fresh_seeds_differ():
    assert len({fresh_seed() for _ in range(20)}) > 15
