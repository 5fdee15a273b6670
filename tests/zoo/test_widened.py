from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from outpace import Decoder
from outpace.errors import InvalidArgument
from outpace.models import LanguageModel, load, wrap
from outpace.models.precision import quantized
from outpace.zoo.shapes import WIDE, Shape
from outpace.zoo.widened import widened

PROMPTS = (
    "It was late in the autumn when the old captain came back to the village, and",
    "def mean(numbers: list[float]) -> float:\n    ",
    "= The Battle of the River =\n\nThe battle was fought in",
)
GROUPED = Shape(layers=7, hidden=640, inner=1100, heads=10, kv_heads=5, tied=False)
"""Nothing a multiple of anything; two queries a key head, where the trained model has three."""


@pytest.fixture(scope="module")
def target() -> LanguageModel:
    return load("zoo:target", dtype="float32", device="cpu")


def wide(target: LanguageModel, shape: Shape) -> LlamaForCausalLM:
    with target.stock() as stock:
        return widened(stock, shape)


@pytest.fixture(scope="module")
def twin(target: LanguageModel) -> LanguageModel:
    return wrap(wide(target, WIDE), target.tokenizer, name="the wide twin")


@pytest.mark.parametrize("shape", [WIDE, GROUPED], ids=["wide", "grouped"])
def test_the_same_logits(target: LanguageModel, twin: LanguageModel, shape: Shape) -> None:
    model = twin if shape is WIDE else wrap(wide(target, shape))
    tokenizer: Any = target.tokenizer
    for prompt in PROMPTS:
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        torch.testing.assert_close(
            model.stock_logits(ids), target.stock_logits(ids), rtol=0, atol=1e-4
        )


def test_its_size_and_its_texts(target: LanguageModel, twin: LanguageModel) -> None:
    assert 140e6 < twin.parameters < 180e6
    for prompt in PROMPTS:
        expected = Decoder(target).generate(prompt, max_new_tokens=24, ignore_eos=True)
        got = Decoder(twin).generate(prompt, max_new_tokens=24, ignore_eos=True)
        assert got.tokens == expected.tokens


def test_early_exit_sees_the_same_share_of_the_function(
    target: LanguageModel, twin: LanguageModel
) -> None:
    outputs = [
        Decoder.from_pretrained(model, drafter="early-exit", draft_length=2).generate(
            PROMPTS[0], max_new_tokens=24, ignore_eos=True
        )
        for model in (target, twin)
    ]
    assert outputs[0].stats.accepted == outputs[1].stats.accepted
    assert outputs[0].tokens == outputs[1].tokens


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_rows_of_zeros_can_be_quantised(twin: LanguageModel, precision: str) -> None:
    with twin.stock() as stock:
        half = wrap(stock, twin.tokenizer)
    tokenizer: Any = twin.tokenizer
    ids = torch.tensor([tokenizer(PROMPTS[0])["input_ids"]])
    logits = quantized(half, precision).stock_logits(ids)
    assert logits.isfinite().all()
    agree = logits.argmax(-1) == twin.stock_logits(ids).argmax(-1)
    assert agree.float().mean() > 0.6


@pytest.mark.parametrize(
    "changes",
    [{"hidden": 256, "heads": 4, "kv_heads": 4}, {"layers": 5}, {"inner": 1000}, {"tied": True}],
)
def test_what_does_not_fit(target: LanguageModel, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="give a larger shape"):
        wide(target, replace(WIDE, **changes))
