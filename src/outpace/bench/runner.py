"""Runs every method on every prompt, in turn, in one process, and keeps all that is done."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import PromptError
from . import memory
from .baselines import TunedAssisted, tuning_steps
from .differences import Difference, Judge, first_difference
from .methods import Method, Models, Sample, Writing
from .workloads import BenchPrompt

BASELINE = "hf"
Notify = Callable[[str], None]
Key = tuple[int, int]
"""(prompt, repeat)"""


@dataclass(slots=True)
class Measured:
    """What a run has so far.

    Attributes:
        samples: of each method, by prompt and repeat; all methods have the same keys.
        memory: of each method, (peak, growth) in bytes; None where the system does not tell.
        differences: of each method that is compared, for each prompt whose text differs.
        interrupted: whether it was stopped before its end.
        judged: whether all differences were looked into.
    """

    samples: dict[str, dict[Key, Sample]] = field(default_factory=dict)
    memory: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    differences: dict[str, list[Difference]] = field(default_factory=dict)
    interrupted: bool = False
    judged: bool = False

    @property
    def keys(self) -> list[Key]:
        """What is done, prompt by prompt."""
        return sorted(next(iter(self.samples.values()), {}))


@dataclass(slots=True)
class Bench:
    """A measurement, ready to run.

    Args:
        models: target and drafter.
        methods: ``hf``, the baseline, is one of them; ``plain`` too where text is sampled.
        prompts: what to continue.
        writing: how.
        repeats: how often every prompt is continued by every method.
        warmup: prompts every method continues before anything counts.
    """

    models: Models
    methods: Sequence[Method]
    prompts: Sequence[BenchPrompt]
    writing: Writing
    repeats: int = 1
    warmup: int = 1

    @property
    def reference(self) -> str:
        """The method whose text the others are compared with."""
        return "plain" if self.writing.temperature else BASELINE

    @property
    def steps(self) -> int:
        """How many texts will be written."""
        tuned = sum(isinstance(method, TunedAssisted) for method in self.methods)
        each = self.warmup + 1 + self.repeats * len(self.prompts)
        return len(self.methods) * each + tuned * tuning_steps(len(self.prompts))

    def run(self, notify: Notify = lambda _: None) -> Measured:
        """Measure. Ctrl-C ends it early; what every method has done on a prompt is kept.

        Args:
            notify: told what is being done, once for every text.

        Raises:
            KeyboardInterrupt: nothing is done yet that could be kept.
        """
        done = Measured(samples={method.name: {} for method in self.methods})
        try:
            self._prepare(done, notify)
            self._measure(done, notify)
        except KeyboardInterrupt:
            if not done.keys:
                raise
            done.interrupted = True
        try:
            self._compare(done, notify)
        except KeyboardInterrupt:
            done.interrupted = True
        return done

    def _prepare(self, done: Measured, notify: Notify) -> None:
        longest = max(self.prompts, key=lambda prompt: len(prompt.text))
        device = self.models.target.device
        for method in self.methods:
            for number in range(self.warmup):
                with method.ready():
                    method.write(self.prompts[number % len(self.prompts)], self.writing)
                notify(f"warm-up: {method.name}")
            for step in method.tune(list(self.prompts), self.writing):
                notify(f"tuning: {method.name}: {step}")
            with method.ready():
                write = _call(method, longest, self.writing)
                done.memory[method.name] = memory.measure(write, device)
            notify(f"memory: {method.name}")

    def _measure(self, done: Measured, notify: Notify) -> None:
        shuffle = random.Random(self.writing.seed)
        for repeat in range(self.repeats):
            for number, prompt in enumerate(self.prompts):
                row: dict[str, Sample] = {}
                for method in shuffle.sample(list(self.methods), len(self.methods)):
                    with method.ready():
                        row[method.name] = method.write(prompt, self.writing)
                    notify(f"{prompt.workload} {number + 1}: {method.name}")
                for name, sample in row.items():
                    done.samples[name][number, repeat] = sample

    def _compare(self, done: Measured, notify: Notify) -> None:
        """Find where texts differ, and why."""
        for method in self._compared():
            texts = done.samples[method.name]
            found = [
                first_difference(key[0], expected.tokens, texts[key].tokens)
                for key, expected in self._references(done)
            ]
            done.differences[method.name] = [difference for difference in found if difference]
        judge = Judge(self.models.target, self.writing.temperature)
        for method in self._compared():
            for place, difference in enumerate(done.differences[method.name]):
                notify(f"comparing: {method.name}, prompt {difference.prompt + 1}")
                judged = self._judged(judge, method, difference, done)
                done.differences[method.name][place] = judged
        done.judged = True

    def _compared(self) -> Iterator[Method]:
        for method in self.methods:
            if method.name != self.reference and (method.same_text or not self.writing.temperature):
                yield method

    def _references(self, done: Measured) -> Iterator[tuple[Key, Sample]]:
        """Yield the first repeat of every prompt of the reference; later ones write the same."""
        for key in done.keys:
            if key[1] == 0:
                yield key, done.samples[self.reference][key]

    def _judged(
        self, judge: Judge, method: Method, difference: Difference, done: Measured
    ) -> Difference:
        prompt = self.prompts[difference.prompt]
        key = (difference.prompt, 0)
        reference = next(m for m in self.methods if m.name == self.reference)
        rows = []
        for one in (reference, method):
            with one.ready():
                tokens, logits = one.rows(prompt, self.writing)
            same = tokens == done.samples[one.name][key].tokens
            at = difference.index
            rows.append(logits[at] if same and at < len(logits) else None)
        tokenizer = self.models.target.tokenizer
        ids = tokenizer(prompt.text)["input_ids"] if tokenizer else []
        common = done.samples[method.name][key].tokens[: difference.index]
        return judge.judge(difference, [*ids, *common], self.writing.seed_for(prompt), rows)


def fit_prompts(
    prompts: Sequence[BenchPrompt], models: Models, max_new_tokens: int
) -> tuple[list[BenchPrompt], int]:
    """Cut passages to their number of tokens, and what is too long for the models from the left.

    Returns:
        The prompts, and how many were too long.

    Raises:
        PromptError: the new tokens alone do not fit, or the target has no tokenizer.
    """
    tokenizer = models.target.tokenizer
    if tokenizer is None:
        raise PromptError(
            f"{models.target.name} has no tokenizer that can be read, so it cannot take a text: "
            "put the model's tokenizer files (tokenizer.json) into its folder"
        )
    prompts = [_first_tokens(tokenizer, prompt) for prompt in prompts]
    limits = [m.context_length for m in (models.target, models.drafter) if m and m.context_length]
    if not limits:
        return prompts, 0
    room = min(limits) - max_new_tokens
    if room < 1:
        raise PromptError(
            f"{max_new_tokens} new tokens leave no room for a prompt in a context of "
            f"{min(limits)}: give fewer --max-new-tokens"
        )
    fitted, cut = [], 0
    for prompt in prompts:
        text, keep = prompt.text, room
        while len(ids := tokenizer(text)["input_ids"]) > room:
            text = tokenizer.decode(ids[-keep:], skip_special_tokens=True)
            keep = max(1, keep - 8)  # a text that is cut can have more tokens than it had
        cut += text is not prompt.text
        fitted.append(BenchPrompt(prompt.workload, prompt.name, text))
    return fitted, cut


def _first_tokens(tokenizer: Any, prompt: BenchPrompt) -> BenchPrompt:
    if prompt.tokens is None:
        return prompt
    ids = tokenizer(prompt.text, add_special_tokens=False)["input_ids"][: prompt.tokens]
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return BenchPrompt(prompt.workload, prompt.name, text.rstrip("\N{REPLACEMENT CHARACTER}"))


def _call(method: Method, prompt: BenchPrompt, writing: Writing) -> Callable[[], object]:
    return lambda: method.write(prompt, writing)
