"""What time decided is repeated, each text with its own drafts."""

from dataclasses import replace
from typing import Any

from outpace import Decoder
from outpace.bench import BenchPrompt, Models, Writing
from outpace.bench.loop import Loop
from outpace.drafters.ngram import NgramDrafter
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
