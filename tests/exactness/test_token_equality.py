"""Token for token, in fp32: the loop against transformers' greedy generate and a cache-free oracle.

Every family × drafter × length controller, over 200 tokens, on prompts shorter than, equal to and
longer than the n-gram order.
"""

from functools import cache
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

import architectures
from outpace import Decoder
from outpace.compose import make_lengths
from outpace.drafters import Drafter
from outpace.drafters.model import ModelDrafter
from outpace.drafters.ngram import NgramDrafter
from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.reference import decode
from outpace.sampling import Sampling

TOKENS = 200
SHORT, EQUAL, LONG = (5, 9), (5, 9, 13), (*tuple(range(20, 40)), 20, 21)
PENALTIES = {"repetition_penalty": 1.2, "no_repeat_ngram_size": 4}

GREEDY = [(prompt, {}) for prompt in (SHORT, EQUAL, LONG)] + [(LONG, PENALTIES)]
SAMPLED = [
    (SHORT, {"temperature": 1.0}),
    (EQUAL, {"temperature": 0.8, "top_p": 0.9}),
    (LONG, {"temperature": 0.9, "top_p": 0.95, **PENALTIES}),
]
FAMILIES = list(architectures.CONFIGS)
DRAFTERS = ["model", "ngram", "prompt-lookup"]


def make(name: str, drafter_model: Any) -> Drafter:
    if name == "model":
        return ModelDrafter(drafter_model)
    return NgramDrafter() if name == "ngram" else PromptLookupDrafter()


@cache
def hf_greedy(family: str, prompt: tuple[int, ...], penalised: bool) -> list[int]:
    model = architectures.build(family)
    model.generation_config.eos_token_id = None  # generate would fill it in
    config = GenerationConfig(
        max_new_tokens=TOKENS,
        do_sample=False,
        pad_token_id=0,
        **(PENALTIES if penalised else {}),
    )
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("lengths", ["5", "adaptive"])
@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_transformers_greedy(family, drafter, lengths, pair):
    target, small = pair(family)
    decoder = Decoder(target, make(drafter, small), lengths=make_lengths(lengths))
    drafted = 0
    for prompt, settings in GREEDY:
        out = decoder.generate(prompt, max_new_tokens=TOKENS, ignore_eos=True, **settings)
        assert out.tokens == hf_greedy(family, prompt, bool(settings))
        drafted += out.stats.drafted
    assert drafted > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_is_transformers_greedy(family, pair):
    decoder = Decoder(pair(family)[0])
    for prompt, settings in GREEDY:
        out = decoder.generate(prompt, max_new_tokens=TOKENS, ignore_eos=True, **settings)
        assert out.tokens == hf_greedy(family, prompt, bool(settings))
        assert out.stats.rounds == TOKENS - 1


@pytest.mark.parametrize("family", FAMILIES)
def test_sampled_text_depends_on_the_seed_alone(family, pair):
    target, small = pair(family)
    plain = Decoder(target)
    decoders = [
        Decoder(target, make(drafter, small), lengths=make_lengths(lengths))
        for drafter in DRAFTERS
        for lengths in ("5", "adaptive")
    ]
    for number, (prompt, settings) in enumerate(SAMPLED):
        request = {"max_new_tokens": TOKENS, "ignore_eos": True, "seed": number, **settings}
        wanted = plain.generate(prompt, **request)
        assert len(set(wanted.tokens)) > 20
        for decoder in decoders:
            out = decoder.generate(prompt, **request)
            assert out.tokens == wanted.tokens
        assert plain.generate(prompt, **{**request, "seed": 99}).tokens != wanted.tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_is_the_cache_free_oracle(family, pair):
    target, _ = pair(family)
    for prompt, settings in ((EQUAL, {}), (LONG, {"temperature": 0.9, "top_p": 0.9, "seed": 5})):
        out = Decoder(target).generate(prompt, max_new_tokens=60, ignore_eos=True, **settings)
        own = decode(target.stock_logits, prompt, 60, Sampling(**settings))
        assert out.tokens == own


@pytest.mark.parametrize("settings", [{}, PENALTIES])
@pytest.mark.parametrize("drafter", DRAFTERS)
def test_greedy_under_the_rejection_verifier_is_plain_greedy(drafter, settings, pair):
    from outpace.verifiers.rejection import RejectionVerifier

    target, small = pair("llama")
    decoder = Decoder(target, make(drafter, small), verifier=RejectionVerifier())
    out = decoder.generate(LONG, max_new_tokens=TOKENS, ignore_eos=True, **settings)
    assert out.tokens == hf_greedy("llama", LONG, bool(settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": 5},
        {"min_p": 0.1},
        {"typical_p": 0.6},
        {"bad_words": [[7], [8, 9]]},
        {"top_k": 20, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.4},
    ],
    ids=lambda settings: "+".join(settings),
)
def test_every_processor_acts_on_each_nodes_own_path(settings, pair):
    target, small = pair("llama")
    request = {"max_new_tokens": TOKENS, "ignore_eos": True, "temperature": 1.1, **settings}
    own = decode(
        target.stock_logits,
        LONG,
        60,
        Sampling(
            seed=0,
            temperature=1.1,
            **{k: tuple(map(tuple, v)) if k == "bad_words" else v for k, v in settings.items()},
        ),
    )
    wanted = Decoder(target).generate(LONG, **request).tokens
    assert wanted[:60] == own
    for drafter in DRAFTERS:
        assert Decoder(target, make(drafter, small)).generate(LONG, **request).tokens == wanted
    free = {k: v for k, v in request.items() if k not in settings}
    assert Decoder(target).generate(LONG, **free).tokens != wanted
