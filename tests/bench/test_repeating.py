"""What time decided is repeated, each text with its own drafts."""

import json
from dataclasses import replace
from typing import Any

from outpace import Decoder
from outpace.bench import BenchPrompt, Models, Writing
from outpace.bench.loop import Loop
from outpace.drafters.ngram import NgramDrafter
from outpace.lengths.fixed import FixedLength
from outpace.types import Budget, TokenTree


class Moody(NgramDrafter):
    """Another draft whenever it is asked."""

    repeats = False
    asked = 0

    def propose(self, context: Any, budget: Budget, drawing: Any) -> TokenTree:
        self.asked += 1
        return super().propose(context, Budget.chain(self.asked % 5), drawing)


def test_samples_of_one_prompt_are_kept_apart(models: Models, prompts: list[BenchPrompt]) -> None:
    loop = Loop("ngram", models, 5)
    loop.decoder = Decoder(models.target, Moody())
    writing = Writing(40, temperature=0.7)
    samples = [replace(prompts[0], seed=number) for number in range(3)]
    with loop.ready():
        texts = [loop.write(prompt, writing).tokens for prompt in samples]
        assert len(set(map(tuple, texts))) == 3
        for prompt, text in zip(samples, texts, strict=True):
            assert loop.rows(prompt, writing)[0] == text


def test_conversations_that_begin_alike_are_too(models: Models, prompts: list[BenchPrompt]) -> None:
    loop = Loop("ngram", models, 5)
    loop.decoder = Decoder(models.target, Moody())
    writing = Writing(16)
    talks = [replace(prompts[0], turns=(turn,)) for turn in ("\nso\n", "\nand the other dog?\n")]
    with loop.ready():
        texts = [loop.write(talk, writing).tokens for talk in talks]
        for talk, text in zip(talks, texts, strict=True):
            tokens, rows = loop.rows(talk, writing)
            assert tokens == text
            assert [int(row.argmax()) for row in rows] == text


def test_another_process_can_write_it_again(models: Models, prompts: list[BenchPrompt]) -> None:
    def loop() -> Loop:
        made = Loop("ngram", models, 5)
        made.decoder = Decoder(models.target, Moody(), lengths=FixedLength(5))
        return made

    first, later, writing = loop(), loop(), Writing(40)
    with first.ready():
        text = first.write(prompts[0], writing).tokens
    assert first.drafts(prompts[1]) is None
    later.recall(prompts[0], json.loads(json.dumps(first.drafts(prompts[0]))))
    for one in (first, later):
        with one.ready():
            assert one.rows(prompts[0], writing)[0] == text
    widths = [[len(turn.tree) for turn in one.rounds] for one in (first, later)]
    assert widths[0] == widths[1]
    assert max(widths[0]) > 1
    steady = Loop("ngram", models, 5)  # what depends on the text alone needs no such thing
    with steady.ready():
        steady.write(prompts[0], writing)
    assert steady.drafts(prompts[0]) is None
