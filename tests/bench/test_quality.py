import math
from typing import Any

import pytest
import torch

from outpace.bench import Bench, BenchPrompt, Models, Writing, make_method, quality
from outpace.bench.figures import figures
from outpace.bench.quality import surprise
from outpace.models import LanguageModel
from outpace.models.tiny import tiny_model

IDS = [int(place) for place in torch.randint(0, 256, (300,), generator=torch.manual_seed(3))]
WRITTEN = [place >= 40 and place % 7 != 0 for place in range(300)]


@torch.no_grad()
def directly(model: LanguageModel, ids: list[int], written: list[bool]) -> float:
    """The same from one forward over everything, in double precision."""
    with model.stock() as stock:
        any_model: Any = stock
        rows = any_model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()
    laws = torch.log_softmax(rows, dim=-1)
    return -sum(float(laws[i - 1, ids[i]]) for i in range(1, len(ids)) if written[i])


@pytest.mark.parametrize("chunk", [1, 7, 64, 299, 300, 512])
def test_it_is_what_one_forward_says(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "CHUNK", chunk)
    model = tiny_model()
    assert surprise(model, IDS, WRITTEN) == pytest.approx(directly(model, IDS, WRITTEN), abs=1e-3)


def test_one_token_more_or_less_shows() -> None:
    """The negative control of the tolerance: each token weighs far more."""
    model = tiny_model()
    other = [*WRITTEN[:100], not WRITTEN[100], *WRITTEN[101:]]
    assert abs(surprise(model, IDS, other) - surprise(model, IDS, WRITTEN)) > 0.1
    shifted = [False, *WRITTEN[:-1]]
    assert abs(surprise(model, IDS, shifted) - surprise(model, IDS, WRITTEN)) > 0.1


def test_a_model_that_knows_nothing() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.model.get_output_embeddings().weight.zero_()
    assert surprise(model, IDS, WRITTEN) == pytest.approx(sum(WRITTEN) * math.log(257), rel=1e-6)
    assert surprise(model, IDS, [False] * 300) == 0.0
    assert surprise(model, IDS[:1], [False]) == 0.0


def test_every_text_is_weighed_once(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*given: Any) -> float:
        calls.append(given)
        return surprise(*given)

    monkeypatch.setattr("outpace.bench.afterwards.surprise", counted)
    methods = [make_method(name, models, 4) for name in ("hf", "plain", "draft")]
    bench = Bench(models, methods, prompts, Writing(24), repeats=2)
    done = bench.run()
    assert len(calls) == len(prompts)  # all methods and repeats wrote the same
    tokenizer: Any = models.target.tokenizer
    found = []
    for number, prompt in enumerate(prompts):
        ids = tokenizer(prompt.text)["input_ids"]
        new = done.samples["hf"][number, 0].tokens
        marks = [False] * len(ids) + [True] * len(new)
        found.append(directly(models.target, [*ids, *new], marks))
    expected = math.exp(sum(found) / (24 * len(prompts)))
    for name in ("hf", "plain", "draft"):
        assert figures(done, name, done.keys)["ppl"] == pytest.approx(expected, rel=1e-5)
