"""What a measurement has so far, as plain values: it can be written down and read back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .differences import Difference
from .fitting import is_chat
from .sample import Sample
from .workloads import BenchPrompt, note_for, prompts_hash

BASELINE = "hf"
"""What every speed-up is measured against."""
PLAIN = "plain"
"""Our own loop without drafts: against it is measured what drafts alone are worth."""
Key = tuple[int, int]
"""(prompt, repeat)"""


@dataclass(slots=True)
class Facts:
    """A method, as a report needs it.

    Attributes:
        name: of the method.
        exact: whether its text has the target's own law.
        reference: the method whose text it is compared with; None where it is not compared.
        settings: what was set or found.
        weights: bytes of the weights of each model it runs, the target first.
        memory: (peak, growth) in bytes; None where the system does not tell.
        cold: seconds a token of its first text in the process, a continuation of the first prompt;
            None where it had written before.
        axes: what a study varied, as far as this method goes.
    """

    name: str
    exact: bool = True
    reference: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    memory: tuple[int, int] | None = None
    cold: float | None = None
    axes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Asked:
    """The prompts of a measurement, without their texts.

    Attributes:
        texts: workload and name of each.
        sha256: equal exactly where all texts are.
        cut: how many were too long for the models.
        note: what has to be said of them with this target.
    """

    texts: list[tuple[str, str]] = field(default_factory=list)
    sha256: str = ""
    cut: int = 0
    note: str | None = None

    @classmethod
    def of(cls, prompts: Sequence[BenchPrompt], cut: int = 0, tokenizer: Any = None) -> Asked:
        """Return what is kept of prompts, and said of them with a target's tokenizer."""
        texts = [(prompt.workload, prompt.name) for prompt in prompts]
        names = list(dict.fromkeys(prompt.workload for prompt in prompts))
        note = None if is_chat(tokenizer) else note_for(names)
        return cls(texts, prompts_hash(prompts), cut, note)


@dataclass(slots=True)
class Measured:
    """What a run has so far.

    Attributes:
        reference: the method whose text the others are compared with.
        asked: the prompts.
        repeats: how often every prompt is to be continued.
        methods: what is known of each method.
        samples: of each method, by prompt and repeat.
        anchors: the baseline and plain decoding once more, where a later run went on with a prompt,
            by method, key and run.
        drafts: by method and prompt, what was drafted for a text that differs, where time decided.
        unusable: methods without figures, each with the reason: out of memory, or not there yet.
        differences: of each method that is compared, for each prompt whose text differs.
        surprise: by prompt and :func:`text_hash`, how improbable the target finds a text, in nats;
            None where there was no memory to find out.
        drift: seconds of one and the same text by the baseline, from the start of a run and its
            end.
        interrupted: whether it was stopped before its end.
        failed: the error that ended it early.
        ran_out: whether that was for want of memory.
        judged: whether all differences were looked into.
    """

    reference: str = BASELINE
    asked: Asked = field(default_factory=Asked)
    repeats: int = 1
    methods: dict[str, Facts] = field(default_factory=dict)
    samples: dict[str, dict[Key, Sample]] = field(default_factory=dict)
    anchors: dict[tuple[str, Key, int], Sample] = field(default_factory=dict)
    drafts: dict[tuple[str, int], list[Any]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    differences: dict[str, list[Difference]] = field(default_factory=dict)
    surprise: dict[tuple[int, str], float | None] = field(default_factory=dict)
    drift: list[tuple[float, float]] = field(default_factory=list)
    interrupted: bool = False
    failed: str | None = None
    ran_out: bool = False
    judged: bool = False

    @property
    def usable(self) -> list[str]:
        """The methods that have figures, or will have."""
        return [name for name in self.samples if name not in self.unusable]

    @property
    def keys(self) -> list[Key]:
        """What every method that can be used has done, prompt by prompt."""
        each = [set(self.samples[name]) for name in self.usable]
        return sorted(set.intersection(*each)) if each else []

    @property
    def weighed(self) -> bool:
        """Whether it is known of all texts how improbable they are."""
        return all(
            (key[0], text_hash(sample.tokens)) in self.surprise
            for name in self.usable
            for key, sample in self.samples[name].items()
        )

    def beside(self, name: str, key: Key, other: str = BASELINE) -> Sample:
        """Return the text of another method that was written next to one of a method's."""
        sample, own = self.samples[name][key], self.samples[other][key]
        return own if own.run == sample.run else self.anchors.get((other, key, sample.run), own)

    @property
    def unpaired(self) -> int:
        """How many texts have no baseline, or no plain decoding, of their own run next to them."""
        plain = [PLAIN] if PLAIN in self.usable else []
        return sum(
            any(
                self.beside(name, key, other).run != self.samples[name][key].run
                for other in (BASELINE, *(plain if name != BASELINE else []))
            )
            for name in self.usable
            for key in self.keys
        )


def text_hash(tokens: Sequence[int]) -> str:
    """Return a short hash that is equal exactly where two texts are."""
    return hashlib.sha256(",".join(map(str, tokens)).encode()).hexdigest()[:16]


def context_of(
    tokenizer: Any, prompt: BenchPrompt, tokens: Sequence[int], answers: Sequence[int]
) -> list[int]:
    """Return all token ids before the next one of a text or a conversation.

    Args:
        tokenizer: of the target.
        prompt: what was asked.
        tokens: the new tokens so far.
        answers: how many tokens each answer has.
    """
    ids, place = list(tokenizer(prompt.text)["input_ids"]), 0
    for number, count in enumerate(answers or [len(tokens)]):
        if number:
            if place > len(tokens) or number > len(prompt.turns):
                break
            turn = prompt.turns[number - 1]
            ids += tokenizer(turn, add_special_tokens=False)["input_ids"]
        ids += tokens[place : place + count]
        place += count
        if place > len(tokens):
            break
    return ids


def weights_of(models: Sequence[Any]) -> Mapping[str, int]:
    """Return the bytes of the weights of each model, by its name."""
    return {model.name: model.weight_bytes for model in models}
