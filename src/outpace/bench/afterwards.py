"""What is looked into once texts are written: where they differ and why, how probable they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from . import memory
from .differences import Difference, Judge, first_difference
from .keeping import Keeping, Notify
from .measured import Measured, context_of, text_hash
from .methods import Method
from .quality import surprise
from .sample import Sample, Writing
from .workloads import BenchPrompt

if TYPE_CHECKING:
    from .runner import Bench

_SLACK = 32
"""Tokens written beyond the last one that is looked at: the end of a text cuts drafts short."""
Rows = tuple[list[int], list[Tensor]]
"""Tokens of a text and the logits each was chosen from."""


@dataclass(slots=True)
class Afterwards:
    """Looks into what a measurement wrote.

    Attributes:
        bench: what was measured.
        notify: told of every difference.
        done: what there is; what is found is added.
        keeping: told of what is found.
        methods: those that have figures.
    """

    bench: Bench
    notify: Notify
    done: Measured
    keeping: Keeping
    methods: Sequence[Method]

    def compare(self) -> None:
        """Find where texts differ, and why."""
        done = self.done
        compared = [
            method
            for method in self.methods
            if self.bench.compares(method) and method.name not in done.differences
        ]
        found = {method.name: self._differences(method) for method in compared}
        references: dict[tuple[str, int], Rows] = {}
        furthest: dict[tuple[str, int], int] = {}
        for method in compared:
            for one in found[method.name]:
                text = (self.bench.reference_of(method), one.prompt)
                furthest[text] = max(one.index, furthest.get(text, 0))
        count = sum(map(len, found.values()))
        # of fewer texts another run has to look again
        whole = len(done.keys) == len(self.bench.prompts) * self.bench.repeats
        for method in compared:
            own = [*method.models_used, self.bench.models.target]  # in another precision, perhaps
            judge = Judge(own[0], self.bench.writing, method.forgets)
            done.differences[method.name] = found[method.name]
            for place, difference in enumerate(found[method.name]):
                self.notify(f"comparing: {method.name}, prompt {difference.prompt + 1}", more=count)
                count = 0
                what = (judge, method, difference, references, furthest)
                judged, _ = memory.tried(partial(self._judged, *what))
                if judged is not None:  # if nobody can look it stays unclear
                    done.differences[method.name][place] = judged
            if whole:
                self.keeping.differences(method.name, done.differences[method.name])
        done.judged = True

    def _differences(self, method: Method) -> list[Difference]:
        """Return the first difference of every text, those alike in all repeats once."""
        found = dict[Difference, None]()
        references = self.done.samples[self.bench.reference_of(method)]
        for key in self.done.keys:
            reference = references.get((key[0], 0))
            if reference is None:
                continue
            got = self.done.samples[method.name][key].tokens
            difference = first_difference(key[0], reference.tokens, got)
            if difference is not None:
                as_another = method.forgets is not None and method.compared_with is not None
                if not (method.exact or as_another):
                    difference = replace(difference, kind="approximate")
                found[difference] = None
        return list(found)

    def _judged(
        self,
        judge: Judge,
        method: Method,
        difference: Difference,
        references: dict[tuple[str, int], Rows],
        furthest: Mapping[tuple[str, int], int],
    ) -> Difference:
        if difference.kind == "approximate":
            return difference
        bench = self.bench
        prompt = bench.prompts[difference.prompt]
        reference = next(m for m in bench.methods if m.name == bench.reference_of(method))
        explained = method.explain(difference, reference, prompt, self.bench.writing, judge)
        if explained is not None:
            return explained
        text = (reference.name, difference.prompt)
        if text not in references:
            with reference.ready():
                enough = self._enough(reference, prompt, furthest[text])
                references[text] = reference.rows(prompt, enough)
        at = difference.index
        with method.ready():
            own = method.rows(prompt, self._enough(method, prompt, at))
        sample = self.done.samples[reference.name][difference.prompt, 0]
        expected = sample.tokens[: at + 1]
        wanted = (expected, [*expected[:at], difference.got])
        rows = [
            logits[at] if tokens[: at + 1] == begun and at < len(logits) else None
            for (tokens, logits), begun in zip((references[text], own), wanted, strict=True)
        ]
        tokenizer: Any = bench.models.target.tokenizer
        prefix = context_of(tokenizer, prompt, expected[:at], sample.answers)
        return judge.judge(difference, prefix, self.bench.writing.seed_for(prompt), rows)

    def _enough(self, method: Method, prompt: BenchPrompt, index: int) -> Writing:
        """Return how to write a text again up to an index, and no more than that takes."""
        writing = self.bench.writing
        if prompt.turns or not method.begins_alike:
            return writing
        return replace(writing, max_new_tokens=min(writing.max_new_tokens, index + 1 + _SLACK))

    def weigh(self) -> None:
        """Find out how probable the target finds each text, each once."""
        done, target = self.done, self.bench.models.target
        tokenizer: Any = target.tokenizer
        for name in done.usable:
            for key, sample in done.samples[name].items():
                known = (key[0], text_hash(sample.tokens))
                if known in done.surprise:
                    continue
                prompt = self.bench.prompts[key[0]]
                ids = context_of(tokenizer, prompt, sample.tokens, sample.answers)
                written = _written(tokenizer, prompt, sample)
                done.surprise[known], _ = memory.tried(partial(surprise, target, ids, written))
                self.keeping.surprise(*known, done.surprise[known])


def _written(tokenizer: Any, prompt: BenchPrompt, sample: Sample) -> list[bool]:
    """Return for each token of a text or conversation whether the model wrote it."""
    marks: list[bool] = []
    for number, count in enumerate(sample.answers or [len(sample.tokens)]):
        before = context_of(
            tokenizer,
            prompt,
            sample.tokens[: sum(sample.answers[:number])],
            sample.answers,
        )
        marks += [False] * (len(before) - len(marks)) + [True] * count
    return marks
