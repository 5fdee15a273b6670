"""Methods in turn on the same prompts, within a time: what fails is left out, the others go on."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from outpace.bench import BenchPrompt, Writing
from outpace.bench.differences import Difference, Judge, first_difference
from outpace.bench.methods import Method
from outpace.bench.sample import Sample
from outpace.models import LanguageModel


class Turns:
    """Methods in turn on the same prompts, as often as time allows.

    Args:
        methods: what matters most comes first.
        prompts: one for each repeat, and one for the warm-up before.
        writing: how long texts are.
        left: the seconds that are left.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        prompts: Sequence[BenchPrompt],
        writing: Writing,
        left: Callable[[], float],
    ) -> None:
        self.methods, self.prompts, self.writing, self.left = methods, prompts, writing, left
        self.samples: dict[str, list[Sample]] = {}
        self.dropped: dict[str, str] = {}

    def run(self) -> None:
        """Warm all up, since graphs are captured when they are first needed; then measure."""
        for method in self.methods:
            self._write(method, self.prompts[0])
        shuffle = random.Random(0)
        for number, prompt in enumerate(self.prompts[1:]):
            if sum(samples[-1].seconds for samples in self.samples.values()) > self.left():
                break
            going = [method for method in self.methods if method.name not in self.dropped]
            for method in shuffle.sample(going, len(going)) if number else going:
                sample = self._write(method, prompt)
                if sample is not None:
                    self.samples.setdefault(method.name, []).append(sample)

    def _write(self, method: Method, prompt: BenchPrompt) -> Sample | None:
        """Write a text; what fails, or has no time left, is dropped with its reason."""
        if self.left() <= 0:
            self.dropped[method.name] = "no time was left"
            return None
        print(f"  {method.name}", flush=True)
        try:
            with method.ready():
                return method.write(prompt, self.writing)
        except TimeoutError:
            raise
        except Exception as error:
            self.dropped[method.name] = f"{type(error).__name__}: {error}"
            self.samples.pop(method.name, None)
            return None

    def as_dict(self) -> dict[str, Any]:
        """Return what was measured, whole turns only."""
        turns = min((len(samples) for samples in self.samples.values()), default=0)
        kept = {name: samples[:turns] for name, samples in self.samples.items()}
        return {
            "repeats": turns,
            "dropped": self.dropped,
            "samples": {
                name: [_figures(sample) for sample in samples] for name, samples in kept.items()
            },
        }

    def differences(self, target: LanguageModel, reference: str = "hf") -> dict[str, list[Any]]:
        """Return, for every method, where its texts part from transformers', and why."""
        judge = Judge(target, self.writing)
        by_name = {method.name: method for method in self.methods}
        found: dict[str, list[Any]] = {}
        for name, samples in self.samples.items():
            found[name] = []
            for number, sample in enumerate(samples):
                if number >= len(self.samples[reference]):
                    break
                expected = self.samples[reference][number].tokens
                difference = first_difference(number, expected, sample.tokens)
                if difference is not None:
                    both = by_name[reference], by_name[name]
                    judged = self.judged(judge, difference, both, expected)
                    found[name].append(asdict(judged))
        return found

    def judged(
        self,
        judge: Judge,
        difference: Difference,
        both: tuple[Method, Method],
        expected: Sequence[int],
    ) -> Difference:
        """Write both texts again, and look at the scores where they part."""
        prompt, at = self.prompts[difference.prompt + 1], difference.index
        rows = []
        for method, token in zip(both, (difference.expected, difference.got), strict=True):
            with method.ready():
                tokens, logits = method.rows(prompt, self.writing)
            same = tokens[: at + 1] == [*expected[:at], token]
            rows.append(logits[at] if same and at < len(logits) else None)
        prefix = [*map(int, prompt.text.split()), *expected[:at]]
        return judge.judge(difference, prefix, self.writing.seed_for(prompt), rows)


def _figures(sample: Sample) -> dict[str, Any]:
    """Return all of a sample but its text."""
    figures = asdict(sample) | {"tpot": sample.tpot}
    return figures | {"tokens": len(sample.tokens)}
