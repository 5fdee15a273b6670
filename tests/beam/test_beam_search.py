"""Beam search against transformers' own, in fp32: the same texts with the same scores."""

import itertools
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, PreTrainedModel

import architectures
from outpace import Decoder
from outpace.beam import BeamOutput, BeamRules, BeamSearch
from outpace.beam import search as module
from outpace.models import LanguageModel, wrap

PROMPT = (*range(20, 40), 20, 21)
TOKENS = 24
FAMILIES = ("llama", "gpt_neox", "gpt2", "qwen3", "mistral")
PENALTIES = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2}
GRID = [
    {"num_beams": beams, "length_penalty": penalty, "early_stopping": stopping}
    for beams, penalty, stopping in itertools.product(
        (2, 4), (0.5, 1.0, 2.0), (True, False, "never")
    )
]

Texts = list[tuple[list[int], float]]


@cache
def models(family: str) -> tuple[PreTrainedModel, LanguageModel]:
    """A stock model, and its twin that our search runs on."""
    return architectures.build(family), wrap(architectures.build(family), name=family)


def theirs(family: str, eos: tuple[int, ...] = (), **settings: Any) -> Texts:
    """The new tokens and scores of all beams of transformers' search."""
    model, _ = models(family)
    model.generation_config.eos_token_id = None  # generate would fill it in
    ids = torch.tensor([PROMPT])
    count = settings["num_beams"]
    config = GenerationConfig(
        **{"max_new_tokens": TOKENS, **settings},
        do_sample=False,
        num_return_sequences=count,
        eos_token_id=list(eos) or None,
        pad_token_id=0,
        output_scores=True,
        return_dict_in_generate=True,
    )
    out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    texts = [until(row[len(PROMPT) :], eos) for row in out.sequences.tolist()]
    scores = [0.0] if count == 1 else out.sequences_scores.tolist()
    return list(zip(texts, scores, strict=True))


def until(tokens: list[int], eos: tuple[int, ...]) -> list[int]:
    """A text without the padding after its end."""
    end = next((n for n, token in enumerate(tokens, start=1) if token in eos), len(tokens))
    return tokens[:end]


def ours(family: str, eos: tuple[int, ...] = (), **settings: Any) -> BeamOutput:
    _, target = models(family)
    target.model.generation_config.eos_token_id = list(eos) or None  # type: ignore[union-attr]
    wanted = {"max_new_tokens": TOKENS, "num_return_sequences": settings["num_beams"], **settings}
    return Decoder(target).beam_search(PROMPT, ignore_eos=not eos, **wanted)


def same(found: BeamOutput, expected: Texts) -> bool:
    """Whether all texts are equal, in order, and all scores nearly."""
    texts = [(one.tokens, one.score) for one in found.hypotheses]
    return [tokens for tokens, _ in texts] == [tokens for tokens, _ in expected] and all(
        abs(one - other) < 1e-4 for (_, one), (_, other) in zip(texts, expected, strict=True)
    )


@cache
def ends(family: str, count: int = 3) -> tuple[int, ...]:
    """End tokens that the beams do meet: some of a text without them."""
    [(tokens, _), *_] = theirs(family, num_beams=4)
    return tuple(dict.fromkeys(tokens[place] for place in (6, 11, 15)[:count]))


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_texts_and_scores_are_those_of_transformers(family: str, count: int) -> None:
    eos = ends(family, count)
    met = set()
    whole = family == "llama" and count == 3
    for settings in GRID if whole else random.Random(family).sample(GRID, 4):
        found = ours(family, eos, **settings)
        assert same(found, theirs(family, eos, **settings)), settings
        met |= {one.end for one in found.hypotheses}
    assert ("eos" in met) == bool(eos)


@pytest.mark.parametrize("family", FAMILIES)
def test_processors_see_the_beam(family: str) -> None:
    for beams, eos in ((2, ()), (4, ()), (4, ends(family))):
        settings = {"num_beams": beams, **PENALTIES}
        expected = theirs(family, eos, **settings)
        assert same(ours(family, eos, **settings), expected)
        assert eos or not same(ours(family, num_beams=beams), expected)


@pytest.mark.parametrize("settings", [{}, PENALTIES], ids=["free", "penalised"])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_beam_is_greedy(family: str, settings: dict[str, Any]) -> None:
    _, target = models(family)
    for eos in ((), ends(family)):
        found = ours(family, eos, num_beams=1, **settings)
        [(tokens, _)] = theirs(family, eos, num_beams=1, **settings)
        assert found.tokens == tokens
        plain = Decoder(target).generate(
            PROMPT, max_new_tokens=TOKENS, ignore_eos=not eos, **settings
        )
        assert found.tokens == plain.tokens
        assert found.hypotheses[0].end == plain.stats.end


def test_the_last_token_may_be_the_first() -> None:
    for beams in (1, 4):
        settings = {"num_beams": beams, "max_new_tokens": 1}
        found = ours("llama", **settings)
        expected = theirs("llama", **settings)
        assert [one.tokens for one in found.hypotheses] == [tokens for tokens, _ in expected]
        assert (found.stats.steps, found.stats.forwards) == (1, 0)


@pytest.mark.parametrize("beams", [16, 64])
def test_many_beams(beams: int) -> None:
    settings = {"num_beams": beams, "max_new_tokens": 12}
    assert same(
        ours("llama", ends("llama"), **settings), theirs("llama", ends("llama"), **settings)
    )


# what must be noticed


class Wrong(BeamSearch):
    """Once lets a beam see the keys and values of another one."""

    def _level(self, nodes: Sequence[int], depth: int) -> torch.Tensor:
        own = self.tree.parents
        if self.stats.forwards == 6:
            above = [own[node] for node in nodes]
            assert len(set(above)) > 1
            first, other = above[0], next(node for node in above if node != above[0])
            self.tree.parents = [other if node == first else node for node in own]
        try:
            return super()._level(nodes, depth)
        finally:
            self.tree.parents = own


def test_a_wrong_parent_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = theirs("llama", num_beams=4)
    assert same(ours("llama", num_beams=4), expected)
    monkeypatch.setattr(module, "BeamSearch", Wrong)
    assert not same(ours("llama", num_beams=4), expected)


def test_a_missing_penalty_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"num_beams": 4, "length_penalty": 2.0}
    expected = theirs("llama", ends("llama"), **settings)
    assert same(ours("llama", ends("llama"), **settings), expected)
    assert not same(ours("llama", ends("llama"), num_beams=4, length_penalty=1.0), expected)
    monkeypatch.setattr(BeamRules, "score", lambda self, log_prob, length: log_prob)
    assert not same(ours("llama", ends("llama"), **settings), expected)


def test_a_stopping_rule_that_is_not_the_one_asked_for_is_noticed() -> None:
    wrong = 0
    for family in FAMILIES:
        expected = theirs(family, ends(family), num_beams=4, early_stopping=True)
        wrong += not same(ours(family, ends(family), num_beams=4, early_stopping="never"), expected)
    assert wrong > 0
