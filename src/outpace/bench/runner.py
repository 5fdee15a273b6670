"""Runs every method on every prompt, in turn, in one process, and keeps all that is done."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor

from ..errors import PromptError, UnsupportedModel
from . import memory
from .baselines import TunedAssisted, tuning_steps
from .differences import Difference, Judge, first_difference
from .methods import Method, Models, Sample, Writing
from .workloads import BenchPrompt

BASELINE = "hf"
Key = tuple[int, int]
"""(prompt, repeat)"""
Rows = tuple[list[int], list[Tensor]]
"""Tokens of a text and the logits each was chosen from."""


class Notify(Protocol):
    """Told what is being done, once for every text."""

    def __call__(self, what: str, *, more: int = 0) -> None:
        """Take a note; ``more`` texts than planned will be written."""


def silent(what: str, *, more: int = 0) -> None:
    """Note nothing."""


@dataclass(slots=True)
class Measured:
    """What a run has so far.

    Attributes:
        samples: of each method, by prompt and repeat.
        memory: of each method, (peak, growth) in bytes; None where the system does not tell.
        differences: of each method that is compared, for each prompt whose text differs.
        interrupted: whether it was stopped before its end.
        failed: the error that ended it early.
        judged: whether all differences were looked into.
    """

    samples: dict[str, dict[Key, Sample]] = field(default_factory=dict)
    memory: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    differences: dict[str, list[Difference]] = field(default_factory=dict)
    interrupted: bool = False
    failed: str | None = None
    judged: bool = False

    @property
    def keys(self) -> list[Key]:
        """What every method has done, prompt by prompt."""
        each = [set(samples) for samples in self.samples.values()]
        return sorted(set.intersection(*each)) if each else []


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

    def reference_of(self, method: Method) -> str:
        """Return the name of the method whose text this one's is compared with."""
        return method.compared_with or self.reference

    @property
    def steps(self) -> int:
        """How many texts will be written."""
        tuned = sum(isinstance(method, TunedAssisted) for method in self.methods)
        each = self.warmup + 1 + self.repeats * len(self.prompts)
        return len(self.methods) * each + tuned * tuning_steps(len(self.prompts))

    def run(self, notify: Notify = silent) -> Measured:
        """Measure. Ctrl-C or an error ends it early; what every method has done is kept.

        Raises:
            KeyboardInterrupt: nothing is done yet that could be kept; likewise any error.
        """
        done = Measured(samples={method.name: {} for method in self.methods})
        for part in (self._prepare, self._measure, self._compare):
            try:
                part(done, notify)
            except KeyboardInterrupt:
                if not done.keys:
                    raise
                done.interrupted = True
            except Exception as error:
                if not done.keys:
                    raise
                done.failed = f"{type(error).__name__}: {error}"
        return done

    def _prepare(self, done: Measured, notify: Notify) -> None:
        longest = max(self.prompts, key=lambda prompt: len(prompt.text))
        device = self.models.target.device
        for method in self.methods:
            for step in method.prepare(list(self.prompts), self.writing):
                notify(f"preparing: {method.name}: {step}", more=1)
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
                        row[method.name] = self._checked(method, prompt)
                    notify(f"{prompt.workload} {number + 1}: {method.name}")
                for name, sample in row.items():
                    done.samples[name][number, repeat] = sample

    def _checked(self, method: Method, prompt: BenchPrompt) -> Sample:
        """Write a text; its time says something only if it is as long as the others."""
        sample = method.write(prompt, self.writing)
        if len(sample.tokens) != self.writing.max_new_tokens:
            raise UnsupportedModel(
                f"{method.name} wrote {len(sample.tokens)} tokens after {prompt.name}, not "
                f"{self.writing.max_new_tokens}: leave it out of --methods"
            )
        return sample

    def _compare(self, done: Measured, notify: Notify) -> None:
        """Find where texts differ, and why."""
        compared = [method for method in self.methods if self._is_compared(method)]
        for method in compared:
            done.differences[method.name] = self._differences(method, done)
        found = [(m, n) for m in compared for n in range(len(done.differences[m.name]))]
        judge = Judge(self.models.target, self.writing.temperature)
        references: dict[int, Rows] = {}
        for count, (method, place) in enumerate(found):
            difference = done.differences[method.name][place]
            notify(
                f"comparing: {method.name}, prompt {difference.prompt + 1}",
                more=0 if count else len(found),
            )
            judged = self._judged(judge, method, difference, done, references)
            done.differences[method.name][place] = judged
        done.judged = True

    def _is_compared(self, method: Method) -> bool:
        if self.writing.temperature:
            return method.same_text or not method.exact
        return True

    def _differences(self, method: Method, done: Measured) -> list[Difference]:
        """Return the first difference of every text, those alike in all repeats once."""
        found = {}
        for prompt, repeat in done.keys:
            expected = done.samples[self.reference_of(method)][prompt, 0].tokens
            got = done.samples[method.name][prompt, repeat].tokens
            difference = first_difference(prompt, expected, got)
            if difference is not None:
                kind = difference.kind if method.exact else "approximate"
                found[difference] = replace(difference, kind=kind)
        return list(found.values())

    def _judged(
        self,
        judge: Judge,
        method: Method,
        difference: Difference,
        done: Measured,
        references: dict[int, Rows],
    ) -> Difference:
        if difference.kind == "approximate":
            return difference
        prompt = self.prompts[difference.prompt]
        reference = next(m for m in self.methods if m.name == self.reference_of(method))
        explained = method.explain(difference, reference, prompt, self.writing, judge)
        if explained is not None:
            return explained
        if difference.prompt not in references:
            with reference.ready():
                references[difference.prompt] = reference.rows(prompt, self.writing)
        with method.ready():
            own = method.rows(prompt, self.writing)
        at = difference.index
        expected = done.samples[reference.name][difference.prompt, 0].tokens[: at + 1]
        texts = (expected, [*expected[:at], difference.got])
        rows = [
            logits[at] if tokens[: at + 1] == text and at < len(logits) else None
            for (tokens, logits), text in zip(
                (references[difference.prompt], own), texts, strict=True
            )
        ]
        tokenizer: Any = self.models.target.tokenizer
        prefix = [*tokenizer(prompt.text)["input_ids"], *expected[:at]]
        return judge.judge(difference, prefix, self.writing.seed_for(prompt), rows)


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
        text = _last_tokens(tokenizer, prompt.text, room)
        if not text:
            raise PromptError(
                f"{max_new_tokens} new tokens leave no room for the prompt {prompt.name} in a "
                f"context of {min(limits)}: give fewer --max-new-tokens"
            )
        cut += text is not prompt.text
        fitted.append(BenchPrompt(prompt.workload, prompt.name, text))
    return fitted, cut


def _last_tokens(tokenizer: Any, text: str, room: int) -> str:
    """Return the end of a text that has at most ``room`` tokens, special ones included."""
    ids = tokenizer(text)["input_ids"]
    keep = room
    while len(ids) > room and keep > 0:
        text = tokenizer.decode(ids[-keep:], skip_special_tokens=True)
        if len(tokenizer(text)["input_ids"]) <= room:
            return text
        keep -= 1 + keep // 16  # a text that is cut can have more tokens than it had
    return text if keep > 0 else ""


def _first_tokens(tokenizer: Any, prompt: BenchPrompt) -> BenchPrompt:
    if prompt.tokens is None:
        return prompt
    ids = tokenizer(prompt.text, add_special_tokens=False)["input_ids"][: prompt.tokens]
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return BenchPrompt(prompt.workload, prompt.name, text.rstrip("\N{REPLACEMENT CHARACTER}"))


def _call(method: Method, prompt: BenchPrompt, writing: Writing) -> Callable[[], object]:
    return lambda: method.write(prompt, writing)
