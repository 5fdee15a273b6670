"""A checkpoint nobody here made: it loads, and its text is exact."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from outpace import Decoder

PROMPTS = [
    "Once upon a time there was a little dog named Max. Max",
    "One day, Lily went to the park. She saw a big red ball. The ball was",
    "Tom and Sam are friends. They like to play",
]


@pytest.fixture(scope="module")
def stock(stories):
    return AutoModelForCausalLM.from_pretrained(stories).eval(), (
        AutoTokenizer.from_pretrained(stories)
    )


@pytest.mark.parametrize("drafter", ["none", "prompt-lookup", "ngram", "itself"])
@pytest.mark.parametrize("length", [5, "adaptive"])
def test_greedy_is_transformers_greedy(stories, stock, drafter, length):
    model, tokenizer = stock
    decoder = Decoder.from_pretrained(
        stories,
        drafter=stories if drafter == "itself" else drafter,
        draft_length=length,
        dtype="float32",
        device="cpu",
    )
    accepted = 0
    for prompt in PROMPTS:
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        wanted = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=220, do_sample=False
        )[0, ids.shape[1] :].tolist()
        out = decoder.generate(prompt, max_new_tokens=220)
        assert out.tokens == wanted
        assert out.text == tokenizer.decode(wanted, skip_special_tokens=True) or (
            " " + out.text.lstrip()
            == " " + tokenizer.decode(wanted, skip_special_tokens=True).lstrip()
        )
        accepted += out.stats.accepted
    assert (accepted > 0) == (drafter != "none")


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.9, "repetition_penalty": 1.2}])
def test_sampled_text_depends_on_the_seed_alone(stories, settings):
    request = {"max_new_tokens": 200, "ignore_eos": True, "temperature": 0.8, **settings}
    texts = {
        drafter: Decoder.from_pretrained(
            stories, drafter=drafter, dtype="float32", device="cpu"
        ).generate(PROMPTS[0], seed=3, **request)
        for drafter in ("none", "prompt-lookup", "ngram", str(stories))
    }
    assert len({tuple(out.tokens) for out in texts.values()}) == 1
    assert texts[str(stories)].stats.acceptance_rate == 1.0
