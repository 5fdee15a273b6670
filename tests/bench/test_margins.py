"""How narrowly a token passes a filter, by hand; and that only a narrow miss excuses a text."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from outpace.bench import Writing
from outpace.bench.differences import Difference, Judge
from outpace.bench.margins import filter_margin
from outpace.models import LanguageModel
from outpace.models.tiny import tiny_model
from outpace.noise import Noise, Stream
from outpace.sampling import Sampling

LAW = torch.log(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))


def test_top_k_is_missed_by_the_distance_to_the_last_that_is_kept() -> None:
    assert filter_margin(LAW, 2, 2, None) == pytest.approx(math.log(0.3 / 0.2))
    assert filter_margin(LAW, 1, 2, None) == pytest.approx(math.log(0.3 / 0.2))
    assert filter_margin(LAW, 0, 2, None) == pytest.approx(math.log(0.5 / 0.2))


def test_top_p_is_missed_by_what_moves_the_sum_over_it() -> None:
    # 0.8 lie above it: 0.8 / (0.8 + 0.2 e^m) = 0.79
    gained = math.log(0.8 * 0.21 / (0.79 * 0.2))
    assert filter_margin(LAW, 2, None, 0.79) == pytest.approx(gained)
    # 0.5 lie above it, and it is kept: 0.5 / (0.5 + 0.5 e^-m) = 0.6
    assert filter_margin(LAW, 1, None, 0.6) == pytest.approx(math.log(0.6 / 0.4))


def test_the_second_filter_sees_what_the_first_one_leaves() -> None:
    # of the best two, 0.625 lie above the second
    gained = math.log(0.625 * 0.4 / (0.6 * 0.375))
    assert filter_margin(LAW, 1, 2, 0.6) == pytest.approx(gained)


def test_without_filters_nothing_is_missed() -> None:
    assert filter_margin(LAW, 2, None, None) == math.inf
    assert filter_margin(LAW, 0, None, 0.9) > 1.0


@pytest.mark.parametrize("settings", [{"top_k": 5}, {"top_p": 0.7}])
def test_within_the_margin_no_move_changes_what_transformers_keeps(settings: dict) -> None:
    generator = torch.Generator().manual_seed(0)
    processors = Sampling(temperature=1.0, **settings).processors()
    ids = torch.zeros(1, 1, dtype=torch.int64)
    limits = (settings.get("top_k"), settings.get("top_p"))

    def kept(scores: Tensor) -> Tensor:
        return torch.isfinite(processors(ids, scores[None].clone())[0])

    for _ in range(20):
        scores = torch.randn(20, dtype=torch.float64, generator=generator)
        before = kept(scores)
        for token in range(20):
            margin = filter_margin(scores, token, *limits)
            move = min(margin, 8.0) / 2 * 0.98
            # the worst there is
            with_it = scores <= scores[token] + 2 * move
            against_it = scores > scores[token] - 2 * move
            against_it[token] = False
            for up in (with_it, against_it):
                moved = torch.where(up, scores + move, scores - move)
                assert kept(moved)[token] == before[token]


class Knowing(Judge):
    """A judge that knows the truth."""

    true: Tensor

    def _true_logits(self, prefix: Sequence[int]) -> Tensor:
        return self.true


@pytest.fixture(scope="module")
def target() -> LanguageModel:
    return tiny_model()


def judged(target: LanguageModel, true: Tensor, writing: Writing) -> Difference:
    """Judge tokens 2 and 0 of three, by paths that deviate by 0.01 from the truth."""
    judge = Knowing(target, writing)
    judge.true = true
    rows = [true + 0.01, true - 0.01]
    return judge.judge(Difference(0, 0, 2, 0), [1], SEED, rows)


# noise that makes the last of three tokens the best by far
SEED = next(
    seed
    for seed in range(1000)
    if int((LAW + Noise(seed).gumbel([1], 3, torch.device("cpu"), Stream.COUPLED)[0]).argmax()) == 2
    and (LAW + Noise(seed).gumbel([1], 3, torch.device("cpu"), Stream.COUPLED)[0]).diff()[-1] > 1
)


@pytest.mark.parametrize(
    ("top_p", "kind"), [(None, "bug"), (0.799, "numerical"), (0.801, "numerical"), (0.7, "bug")]
)
def test_a_token_at_the_edge_of_the_filter_may_be_missing(
    target: LanguageModel, top_p: float | None, kind: str
) -> None:
    found = judged(target, LAW, Writing(temperature=1.0, top_p=top_p))
    assert found.kind == kind
    assert (found.distance < 0.02) == (kind == "numerical")


@pytest.mark.parametrize(("penalty", "kind"), [(1.0, "bug"), (2.0, "numerical")])
def test_penalties_count(target: LanguageModel, penalty: float, kind: str) -> None:
    true = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    judge = Knowing(target, Writing(repetition_penalty=penalty))
    judge.true = true
    rows = [true + 0.01, true - 0.01]  # token 1 stands in the text: 2 becomes 1
    assert judge.judge(Difference(0, 0, 1, 0), [1], 0, rows).kind == kind


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ((0.03, 0.02), "numerical"),  # the path that is wrong deviates enough, its counterpart less
        ((0.03, 0.01), "bug"),  # three times as far off as the other: that is no rounding
        ((9.00, 0.01), "bug"),  # a bug does not excuse itself
        ((9.00, 0.03), "numerical"),  # so near that the better path might have erred too
        ((0.02, 0.02), "bug"),  # neither deviates enough
    ],
)
def test_the_worse_path_counts_as_twice_the_better_at_most(
    target: LanguageModel, errors: tuple[float, float], kind: str
) -> None:
    true = torch.tensor([1.0, 1.05, -3.0], dtype=torch.float64)
    judge = Knowing(target, Writing())
    judge.true = true
    rows = [true + error for error in errors]
    assert judge.judge(Difference(0, 0, 0, 1), [2], 0, rows).kind == kind
