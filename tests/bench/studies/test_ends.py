"""Texts that end at a token of a study's own."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from outpace.bench.baselines import HuggingFace
from outpace.bench.methods import Models
from outpace.bench.sample import Writing
from outpace.bench.studies import Study
from outpace.bench.studies.journal import Journal
from outpace.bench.studies.run import _ending
from outpace.bench.workloads import BenchPrompt
from outpace.errors import InvalidArgument
from outpace.models.tiny import tiny_model

Make = Callable[..., Study]
Go = Callable[[Study], Journal]


def texts(journal: Journal) -> dict[tuple[str, str, int], list[int]]:
    known = {line["id"]: line["tokens"] for line in journal.of("text")}
    return {
        (line["setting"], line["method"], line["prompt"]): known[line["tokens"]]
        for line in journal.of("cell")
    }


def test_texts_end_there_and_only_there(study: Make, run: Go, target: Path, tmp_path: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(target)
    whole = texts(run(study("plain", "ngram@3")))
    written = next(iter(whole.values()))
    ends, place = next(
        (tokenizer.decode([token]), place)
        for place, token in enumerate(written)
        if tokenizer(tokenizer.decode([token]))["input_ids"] == [token]
        and token not in written[:place]
    )
    (tmp_path / "out" / "records.jsonl").unlink()
    cut = texts(run(study("plain", "ngram@3", ends=ends, ignore_eos=False)))
    token = written[place]
    assert any(len(text) == place + 1 for text in cut.values())
    for (_, method, prompt), text in cut.items():
        (full,) = [
            tokens
            for (_, one, number), tokens in whole.items()
            if (one, number) == (method, prompt)
        ]
        end = full.index(token) + 1 if token in full else len(full)
        assert text == full[:end], method


def test_models_are_as_before_afterwards() -> None:
    model = tiny_model()
    before = model.eos_ids
    with suppress(KeyboardInterrupt), _ending(Models(model, None), "e"):
        assert model.eos_ids > before
        raise KeyboardInterrupt
    assert model.eos_ids == before


def test_several_tokens_are_refused(study: Make, run: Go) -> None:
    with pytest.raises(InvalidArgument, match=r"ends is 'the end', which is 7 tokens .*one token"):
        run(study("plain", ends="the end", ignore_eos=False))


def test_the_ends_of_the_generation_config_are_the_baselines_too() -> None:
    model = tiny_model()
    baseline, prompt = HuggingFace("hf", Models(model, None)), BenchPrompt("own", "one", "abc")

    def text(*, ignore_eos: bool) -> list[int]:
        with baseline.ready():
            return baseline.write(prompt, Writing(12, ignore_eos=ignore_eos)).tokens

    whole = text(ignore_eos=True)
    # as of chat models: one end in the config, more of them in the generation config
    more: Any = model.model.generation_config
    more.eos_token_id = [model.config.eos_token_id, whole[4]]
    assert text(ignore_eos=False) == whole[: whole.index(whole[4]) + 1]
    assert text(ignore_eos=True) == whole
