"""Runs every method on every prompt, in turn, in one process, and keeps all that is done."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ..errors import UnsupportedModel
from . import memory
from .afterwards import Afterwards
from .baselines import TunedAssisted, tuning_steps
from .energy import meter
from .keeping import Keeping, Notify, silent
from .measured import BASELINE, PLAIN, Asked, Facts, Key, Measured, weights_of
from .methods import Method, Models
from .sample import Sample, Writing
from .workloads import BenchPrompt

WARM = 128
"""New tokens of a warm-up, at most."""


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
        cut: how many prompts were too long for the models.
        between: done after each prompt, next to what it is held against.
        warm: methods that have written in this process before; the first text of the others is
            timed, cold.
    """

    models: Models
    methods: Sequence[Method]
    prompts: Sequence[BenchPrompt]
    writing: Writing
    repeats: int = 1
    warmup: int = 1
    cut: int = 0
    between: Callable[[], None] | None = None
    warm: Collection[str] = ()

    @property
    def reference(self) -> str:
        """The method whose text the others are compared with."""
        return "plain" if self.writing.temperature else BASELINE

    def reference_of(self, method: Method) -> str:
        """Return the name of the method whose text this one's is compared with."""
        return method.compared_with or self.reference

    def compares(self, method: Method) -> bool:
        """Return whether a method's text should be that of its reference, or says it is not."""
        return not self.writing.temperature or method.same_text or not method.exact

    @property
    def steps(self) -> int:
        """How many texts will be written."""
        return self.steps_left(self.begun())

    def steps_left(self, done: Measured) -> int:
        """Return how many texts will be written to go on with what is done."""
        texts, steps = self.repeats * len(self.prompts), 0
        for method in self.methods:
            left = texts - len(done.samples.get(method.name, ()))
            if left:
                known = method.name in done.methods
                tuned = isinstance(method, TunedAssisted) and not (known or method.is_tuned)
                steps += self.warmup + left + (not known)
                steps += tuning_steps(len(self.prompts)) * tuned
        return steps + 2 if steps else 0

    def begun(self) -> Measured:
        """Return what is measured before anything is."""
        return Measured(
            reference=self.reference,
            asked=Asked.of(self.prompts, self.cut, self.models.target.tokenizer),
            repeats=self.repeats,
            samples={method.name: {} for method in self.methods},
        )

    def run(
        self,
        notify: Notify = silent,
        done: Measured | None = None,
        keeping: Keeping | None = None,
    ) -> Measured:
        """Measure. Ctrl-C or an error ends it early; what every method has done is kept.

        Args:
            notify: told of every text.
            done: what an earlier run has, to go on with.
            keeping: told of everything, at once.

        Raises:
            KeyboardInterrupt: nothing is done yet that could be kept; likewise any error.
        """
        turn = _Run(self, notify, self.begun() if done is None else done, keeping or Keeping())
        after = Afterwards(self, notify, turn.done, turn.keeping, turn.methods)
        for part in (turn.prepare, turn.measure, after.compare, after.weigh):
            try:
                part()
            except KeyboardInterrupt:
                if not turn.done.keys:
                    raise
                turn.done.interrupted = True
                if turn.keeping.goes_on:  # nothing is lost, and whoever stopped it means it
                    break
            except Exception as error:
                if not turn.done.keys:
                    raise
                turn.done.failed = turn.done.failed or f"{type(error).__name__}: {error}"
                turn.done.ran_out = turn.done.ran_out or memory.ran_out(error)
        return turn.done


class _Run:
    """One run of a measurement."""

    def __init__(self, bench: Bench, notify: Notify, done: Measured, keeping: Keeping) -> None:
        self.bench, self.notify, self.done, self.keeping = bench, notify, done, keeping
        self.methods = [one for one in bench.methods if one.name not in done.unusable]
        self.meter = meter(bench.models.target.device)
        for method in self.methods:
            for number, prompt in enumerate(bench.prompts):
                if (method.name, number) in done.drafts:
                    method.recall(prompt, done.drafts[method.name, number])
        keys = [(p, r) for r in range(bench.repeats) for p in range(len(bench.prompts))]
        self.left = {
            one.name: [key for key in keys if key not in done.samples.get(one.name, {})]
            for one in self.methods
        }

    @property
    def writing(self) -> Writing:
        return self.bench.writing

    def prepare(self) -> None:
        """Get the methods ready that have something left to write, and those they stand beside."""
        if not any(self.left.values()):
            return
        for method in list(self.methods):
            self.done.samples.setdefault(method.name, {})
            if self.left[method.name] or method.name in {BASELINE, PLAIN}:
                self._survived(method, partial(self._prepare, method))

    def _prepare(self, method: Method) -> None:
        bench, name = self.bench, method.name
        prompts = list(bench.prompts)
        known = self.done.methods.get(name)
        for step in method.prepare(prompts, self.writing):
            self.notify(f"preparing: {name}: {step}", more=1)
        cold = None
        short = replace(self.writing, max_new_tokens=min(WARM, self.writing.max_new_tokens))
        for number in range(bench.warmup):
            with method.ready():
                warm = method.write(prompts[number % len(prompts)], short)
            if number == 0 and name not in bench.warm:
                cold = warm.seconds / len(warm.tokens)
            self.notify(f"warm-up: {name}")
        if known is not None:
            method.use(known.settings)
            return
        for step in method.tune(prompts, self.writing):
            self.notify(f"tuning: {name}: {step}")
        longest = max(prompts, key=lambda prompt: len(prompt.text))
        with method.ready():
            write = partial(method.write, longest, self.writing)
            peak = memory.measure(write, bench.models.target.device)
        self.notify(f"memory: {name}")
        facts = Facts(
            name,
            exact=method.exact,
            reference=bench.reference_of(method) if bench.compares(method) else None,
            settings=method.settings,
            weights=dict(weights_of(method.models_used)),
            memory=peak,
            cold=cold,
        )
        self.done.methods[name] = facts
        self.keeping.method(facts)

    def _survived(self, method: Method, call: Callable[[], None]) -> bool:
        """Do something; where memory runs out that is what there is to say of the method."""
        if method.name in {BASELINE, self.bench.reference}:
            call()
            return True
        _, why = memory.tried(call)
        if why is not None:
            self.methods.remove(method)
            self.done.unusable[method.name] = why
            self.keeping.unusable(method.name, why)
        return why is None

    def measure(self) -> None:
        """Write all texts that are left, prompt by prompt, the methods in another order each."""
        if not any(self.left.values()):
            return
        bench = self.bench
        shuffle = random.Random(f"{self.writing.seed}-{self.keeping.run}")
        baseline = next(one for one in self.methods if one.name == BASELINE)
        first = self._drift(baseline)
        for repeat in range(bench.repeats):
            for number in range(len(bench.prompts)):
                self._block((number, repeat), shuffle)
        last = self._drift(baseline)
        self.done.drift.append((first, last))
        self.keeping.drift(first, last)

    def _drift(self, baseline: Method) -> float:
        with baseline.ready():
            seconds = baseline.write(self.bench.prompts[0], self.writing).seconds
        self.notify(f"drift: {baseline.name}")
        return seconds

    def _block(self, key: Key, shuffle: random.Random) -> None:
        """Write one prompt by every method that has not; next to each other, or no ratio holds."""
        todo = [one for one in self.methods if key in self.left[one.name]]
        if not todo:
            return
        anchors = [one for one in self.methods if one.name in {BASELINE, PLAIN} and one not in todo]
        turns = [*todo, *anchors]
        shuffle.shuffle(turns)
        for method in turns:
            self._survived(method, partial(self._write, method, key, anchor=method in anchors))
        for method in todo:
            self._keep_drafts(method, key)
        if self.bench.between is not None:
            self.bench.between()

    def _keep_drafts(self, method: Method, key: Key) -> None:
        """Keep what was drafted for a text that differs: a later run may have to look into it."""
        reference = self.done.samples.get(self.bench.reference_of(method), {}).get((key[0], 0))
        own = self.done.samples[method.name].get(key)
        if reference is None or own is None or own.tokens == reference.tokens:
            return
        drafts = method.drafts(self.bench.prompts[key[0]])
        if drafts is not None:
            self.keeping.drafts(method.name, key[0], drafts)

    def _write(self, method: Method, key: Key, *, anchor: bool) -> None:
        prompt = self.bench.prompts[key[0]]
        with method.ready():
            sample = self._checked(method, prompt)
        sample.run = self.keeping.run
        if anchor:
            self.done.anchors[method.name, key, sample.run] = sample
        else:
            self.done.samples[method.name][key] = sample
        self.keeping.sample(method.name, key, sample, anchor=anchor)
        if key == (0, 0) and method.rounds:
            self.keeping.rounds(method.name, key[0], method.rounds, method.began)
        self.notify(f"{prompt.workload} {key[0] + 1}: {method.name}")

    def _checked(self, method: Method, prompt: BenchPrompt) -> Sample:
        """Write a text; its time says something only if it is as long as the others."""
        before = None if self.meter is None else self.meter()
        sample = method.write(prompt, self.writing)
        if self.meter is not None and before is not None:
            sample.joules = self.meter() - before
        wanted = self.writing.max_new_tokens * (1 + len(prompt.turns))
        if self.writing.ignore_eos and len(sample.tokens) != wanted:
            raise UnsupportedModel(
                f"{method.name} wrote {len(sample.tokens)} tokens after {prompt.name}, not "
                f"{wanted}: leave it out of --methods"
            )
        return sample
