"""The same figures as lm-evaluation-harness itself, where it is installed (extra ``lm-eval``)."""

from typing import Any

import pytest
from harness import FIGURES, TEXTS, WINDOW

from outpace.bench.perplexity import Perplexity, perplexity
from outpace.models import LanguageModel, load
from outpace.models.tiny import tiny_model

pytestmark = pytest.mark.filterwarnings("ignore")
DIGITS = 1e-4
"""Four of them: both compute in float32, with other kernels and another order of sums."""


def harness(model: LanguageModel) -> dict[str, float]:
    """What the harness's own model, task and aggregation say."""
    pytest.importorskip(
        "lm_eval", reason="lm-eval is not installed: pip install 'outpace[lm-eval]'"
    )
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import bits_per_byte, weighted_perplexity
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks.wikitext.preprocess_wikitext import process_results

    any_harness: Any = HFLM
    with model.stock() as stock:
        scorer = any_harness(
            pretrained=stock,
            tokenizer=model.tokenizer,
            max_length=WINDOW,
            batch_size=1,
            add_bos_token=False,
        )
        requests = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in TEXTS]
        found = scorer.loglikelihood_rolling(requests, disable_tqdm=True)
    rows = [
        process_results({"page": text}, (sum_,)) for text, sum_ in zip(TEXTS, found, strict=True)
    ]
    return {
        "word_perplexity": weighted_perplexity([row["word_perplexity"] for row in rows]),
        "byte_perplexity": weighted_perplexity([row["byte_perplexity"] for row in rows]),
        "bits_per_byte": bits_per_byte([row["bits_per_byte"] for row in rows]),
    }


def told(found: Perplexity) -> dict[str, float]:
    return {
        "word_perplexity": found.word_perplexity,
        "byte_perplexity": found.byte_perplexity,
        "bits_per_byte": found.bits_per_byte,
    }


def made(name: str) -> LanguageModel:
    if name == "zoo:target":
        return load(name, dtype="float32", device="cpu")
    return tiny_model()


NAMES = ("zoo:target", "tiny")


@pytest.mark.parametrize("name", NAMES)
def test_the_harness_says_the_same(name: str) -> None:
    model = made(name)
    theirs = harness(model)
    assert told(perplexity(model, TEXTS, window=WINDOW, convention="lm-eval")) == pytest.approx(
        theirs, rel=DIGITS
    )


@pytest.mark.parametrize("name", NAMES)
def test_it_is_what_the_harness_said(name: str) -> None:
    """Runs everywhere: what the harness said once."""
    found = perplexity(made(name), TEXTS, window=WINDOW, convention="lm-eval")
    assert told(found) == pytest.approx(FIGURES[name], rel=DIGITS)
    assert max(one.tokens for one in found.documents) > 2 * WINDOW
    assert min(one.tokens for one in found.documents) < WINDOW


@pytest.mark.parametrize(
    "other",
    [
        {"window": WINDOW, "stride": WINDOW // 2, "bos": True},
        {"window": WINDOW, "stride": WINDOW - 1, "bos": True},
        {"window": WINDOW, "stride": WINDOW, "bos": False},
        {"window": WINDOW - 1, "convention": "lm-eval"},
        {"window": WINDOW + 1, "convention": "lm-eval"},
    ],
)
def test_another_convention_says_otherwise(other: dict[str, Any]) -> None:
    """The negative control of the tolerance: each convention that is near differs by far more."""
    found = told(perplexity(made("zoo:target"), TEXTS, **other))
    for name, figure in FIGURES["zoo:target"].items():
        assert abs(found[name] / figure - 1) > 5 * DIGITS


def test_the_convention_is_a_stride_of_the_whole_window() -> None:
    model = made("tiny")
    same = perplexity(model, TEXTS, window=WINDOW, stride=WINDOW, bos=True)
    assert told(same) == told(perplexity(model, TEXTS, window=WINDOW, convention="lm-eval"))
