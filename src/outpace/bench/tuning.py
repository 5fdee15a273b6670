"""What to use here: costs and acceptance first, then a prediction, then the measurement."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from ..cache import Session
from ..cache.costs import forward_costs
from ..decoder import Decoder
from ..drafters import Drafter
from ..drafters.none import NoDrafter
from ..drafters.staircase import catching_up
from ..errors import InvalidArgument
from ..lengths import LengthController
from ..lengths.fixed import FixedLength
from ..models import LanguageModel
from ..models.threads import best_threads
from ..output import Stats
from ..types import Round, TokenTree
from .candidates import Candidate, Source, candidates
from .keeping import Notify, silent
from .measured import PLAIN
from .metrics import Interval, speedup
from .prediction import Prices, Staircase
from .sample import Sample, Writing
from .trace import Traced, traced
from .weighing import OVER, Aim, longest_prompt, over, weight_bytes
from .workloads import BenchPrompt

WARM_UP = 32
"""New tokens of the text each candidate writes before it is measured."""


@dataclass(slots=True)
class Tuning:
    """Finds out how to decode one target on one machine, step by step.

    Call :meth:`price`, :meth:`trace` and :meth:`measure` in this order; what is known is in the
    attributes at any time, so a run that is stopped has something to show.

    Args:
        target: the model whose text is written.
        sources: the drafters to look into.
        prompts: what is continued.
        writing: how.
        lengths: draft tokens a round to look at.
        aim: what is looked for; speed alone if nobody says.

    Attributes:
        threads: seconds of a forward by number of threads; empty on a GPU.
        chosen_threads: the number in use since; None on a GPU.
        verifying: seconds of a forward of the target by static width.
        drafting: the same of each draft model, by the name of its source.
        candidates: what was measured, or is to be.
        samples: of each candidate, by number of the prompt.
        nbytes: of each candidate, where the aim weighs them: weights, and keys and values at the
            end of the longest text, of target and drafter.
        excluded: those that were not measured, and why.
    """

    target: LanguageModel
    sources: Sequence[Source]
    prompts: Sequence[BenchPrompt]
    writing: Writing
    lengths: Sequence[int]
    aim: Aim = field(default_factory=Aim)
    threads: dict[int, float] = field(default_factory=dict)
    chosen_threads: int | None = None
    verifying: Staircase = field(default_factory=dict)
    drafting: dict[str, Staircase] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)
    samples: dict[str, dict[int, Sample]] = field(default_factory=dict)
    nbytes: dict[str, int] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)

    @property
    def price_steps(self) -> int:
        """How often :meth:`price` notifies."""
        return 2 + len({source.name for source in self.sources if source.model is not None})

    def price(self, notify: Notify = silent) -> None:
        """Choose the threads, on a CPU, and measure the staircases of all models."""
        if self.target.device.type == "cpu":
            with self.target.attached():
                step = _Step(self.target)
                self.chosen_threads, self.threads = best_threads(step.seconds)
        notify("threads")
        self.verifying = forward_costs(self.target)
        notify(f"forwards of {self.target.name}")
        for source in self.sources:
            source.drafter.attach(self.target)  # a drafter made of the target has its model now
            if source.model is not None and source.name not in self.drafting:
                self.drafting[source.name] = forward_costs(source.model)
                notify(f"forwards of {source.name}")

    @property
    def trace_steps(self) -> int:
        """How often :meth:`trace` notifies."""
        twice = sum(source.is_planned or source.is_chain for source in self.sources)
        return len(self.prompts) * (1 + len(self.sources) + twice)

    def trace(self, notify: Notify = silent) -> None:
        """Let every drafter draft as much as it may: what is accepted, and what a round takes."""
        plain: list[Traced] = []
        short: dict[str, list[Traced]] = {source.label: [] for source in self.sources}
        stats = {source.label: Stats() for source in self.sources}
        for source in self.sources:
            for number, prompt in enumerate(self.prompts if source.is_planned else ()):
                self._rounds(prompt, source.drafter, source.longest(self.lengths))
                notify(f"planning: {source.label}, prompt {number + 1}")
        for number, prompt in enumerate(self.prompts):
            plain += traced(self._rounds(prompt, NoDrafter(), None))
            notify(f"acceptance: {PLAIN}, prompt {number + 1}")
            for source in self.sources:
                longest = source.longest(self.lengths)
                rounds = self._rounds(prompt, source.drafter, longest)
                source.texts.append(traced(rounds))
                for turn in rounds:
                    stats[source.label].add(turn)
                notify(f"acceptance: {source.label}, prompt {number + 1}")
                if source.is_chain:
                    least = FixedLength(min(self.lengths))
                    short[source.label] += traced(self._rounds(prompt, source.drafter, least))
                    notify(f"pace: {source.label}, prompt {number + 1}")
        for source in self.sources:
            source.acceptance = stats[source.label].per_depth_acceptance
            drafting = self.drafting.get(source.name) if source.model is not None else None
            turns = [turn for text in source.texts for turn in text]
            feeding = 0.0 if source.model is None else catching_up(source.model)
            source.prices = Prices.of(self.verifying, drafting, plain, turns, feeding)
            source.paced(max(self.lengths) if source.is_chain else 0, turns)
            if source.is_chain:
                source.paced(min(self.lengths), short[source.label])
        self.candidates = candidates(
            self.target, self.sources, self.lengths, plain, self.aim.policies
        )
        self.samples = {one.name: {} for one in self.candidates}

    def _rounds(
        self, prompt: BenchPrompt, drafter: Drafter, lengths: LengthController | None
    ) -> list[Round]:
        decoder = Decoder(self.target, drafter, lengths=lengths)
        drafter.reset()
        with ExitStack() as handed:
            for model in (self.target, *drafter.models):
                handed.enter_context(model.attached())
            return list(
                decoder.stream(
                    prompt.text,
                    max_new_tokens=self.writing.max_new_tokens,
                    temperature=self.writing.temperature,
                    seed=self.writing.seed_for(prompt),
                    ignore_eos=True,
                )
            )

    @property
    def measure_steps(self) -> int:
        """How often :meth:`measure` notifies."""
        return len(self.candidates) * (1 + len(self.prompts))

    def measure(self, notify: Notify = silent) -> None:
        """Measure all candidates on all prompts, in turn, in a shuffled order.

        Raises:
            UnsupportedModel: a text came out shorter than asked for.
            InvalidArgument: nothing is within the limit of memory.
        """
        if self.aim.weighs:
            self._weigh(notify)
        else:
            short = replace(self.writing, max_new_tokens=min(WARM_UP, self.writing.max_new_tokens))
            for one in self.candidates:
                with one.loop.ready():
                    one.loop.write(self.prompts[0], short)
                notify(f"warm-up: {one.name}")
        shuffle = random.Random(self.writing.seed)
        for number, prompt in enumerate(self.prompts):
            row: dict[str, Sample] = {}
            for one in shuffle.sample(self.candidates, len(self.candidates)):
                with one.loop.ready():
                    row[one.name] = one.loop.write(prompt, self.writing)
                notify(f"{prompt.workload} {number + 1}: {one.name}")
            for name, sample in row.items():
                self.samples[name][number] = sample

    def _weigh(self, notify: Notify) -> None:
        """Have all candidates write the longest text, count bytes, and leave out what is over.

        Plain decoding stays, since all others are measured against it.
        """
        place, _ = longest_prompt(self.target.tokenizer, self.prompts)
        for one in self.candidates:
            try:
                with one.loop.ready():
                    sample = one.loop.write(self.prompts[place], self.writing)
            except InvalidArgument as error:  # a drafter that does not go with a policy
                if one.policy is None:
                    raise
                self.excluded[one.name] = str(error)
            else:
                weights = weight_bytes(one.loop.models_used)
                self.nbytes[one.name] = weights + sample.kv_bytes + sample.store_bytes
            notify(f"warm-up: {one.name}")
        fitting = {name for name, nbytes in self.nbytes.items() if self.aim.allows(nbytes)}
        if not fitting:
            least = min(self.nbytes, key=self.nbytes.__getitem__)
            raise over(self.aim.limit, self.nbytes[least], least)
        for one in self.candidates:
            if one.name not in fitting and one.name != PLAIN:
                self.excluded.setdefault(one.name, OVER)
                self.samples.pop(one.name)
                notify(f"left out: {one.name}", more=1 - len(self.prompts))
        self.candidates = [one for one in self.candidates if one.name not in self.excluded]

    @property
    def done(self) -> int:
        """How many prompts all candidates have continued."""
        return len(self.samples.get(PLAIN, {}))

    def measured(self, name: str) -> float:
        """Return the tokens a second of decoding, the time to the first token left out."""
        samples = self.samples[name].values()
        tokens = sum(len(sample.tokens) - sample.first for sample in samples)
        return tokens / sum(sample.seconds - sample.ttft for sample in samples)

    def gain(self, name: str) -> Interval:
        """Return how many times as fast as plain decoding a candidate was measured."""
        plain, own = (
            [[one.seconds - one.ttft] for one in self.samples[which].values()]
            for which in (PLAIN, name)
        )
        return speedup(plain, own)


class _Step:
    """One forward of plain decoding, over and over."""

    def __init__(self, model: LanguageModel) -> None:
        self._session = Session(model)
        self._session.prefill([0] * max(1, min(128, (model.context_length or 130) - 2)))
        self._tree = TokenTree.chain(0, device=model.device)

    def seconds(self) -> float:
        """Return the seconds of a forward."""
        began = time.perf_counter()
        self._session.forward(self._tree)[0, 0].item()  # waits for the device
        taken = time.perf_counter() - began
        self._session.abandon()
        return taken
