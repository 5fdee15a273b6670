"""Beam search as a method: ours, and transformers' own, whose text ours is compared with.

Its texts are not greedy texts and are never compared with them. No method knows a token before all
are known, so the time to the first one is the whole time.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from ..beam import BeamRules, BeamSearch
from ..calls import parse_call
from ..decoder import Decoder
from ..request import prepare
from .baselines import HuggingFace
from .differences import Difference, Judge, Kind, deviation_of
from .methods import Method, Models
from .sample import Sample, Writing
from .workloads import BenchPrompt

BEAMS = 4
OURS, THEIRS = "beam", "hf-beam"
NAMES = (OURS, THEIRS)


def is_beam(method: str) -> bool:
    """Return whether a method is a beam search, with settings or without."""
    return method.partition("(")[0].strip() in NAMES


def is_ours(method: str) -> bool:
    """Return whether it is ours."""
    return method.partition("(")[0].strip() == OURS


def beams_of(method: str) -> int:
    """Return how many beams ``beam`` or ``beam(beams=3)`` has.

    Raises:
        InvalidArgument: another setting, or a number that is none.
    """
    call = parse_call(method, f"method {method!r}", "beam(beams=3)")
    beams: int = call.settings(_settings).get("beams", BEAMS)
    BeamRules(beams)
    return beams


def counterpart(method: str) -> str:
    """Return transformers' own search with as many beams."""
    return THEIRS + method.strip().removeprefix(OURS)


def _settings(beams: int = BEAMS) -> None:
    """What a beam search can be given."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a search in which no text ends.

    Attributes:
        paths: the new tokens of each living beam.
        totals: ``[n, V]`` log-probabilities of all continuations.
        beams: of the search.
    """

    paths: list[tuple[int, ...]]
    totals: Tensor
    beams: int = BEAMS

    def best(self, count: int) -> dict[tuple[int, ...], float]:
        """Return the best continuations, best first.

        The way transformers chooses them, twice the number first, so that equal ones come out in
        the same order.
        """
        flat = self.totals.flatten()
        values, places = torch.topk(flat, min(2 * self.beams, len(flat)))
        values, order = torch.topk(values, min(count, len(values)))
        size = self.totals.shape[-1]
        return {
            (*self.paths[place // size], place % size): value
            for place, value in zip(places[order].tolist(), values.tolist(), strict=True)
        }


@dataclass(frozen=True, slots=True)
class Trace:
    """A search, step by step, and the text it chose."""

    steps: list[Step]
    text: tuple[int, ...]

    def chosen(self, number: int) -> set[tuple[int, ...]]:
        """Return the beams that step ``number`` left: after the last one the text alone."""
        return {self.text} if number + 1 == len(self.steps) else set(self.steps[number + 1].paths)


class _Recorded(BeamSearch):
    """Keeps what it chooses from."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.kept: list[Step] = []

    def totals(self, logits: Tensor) -> Tensor:
        totals = super().totals(logits)
        texts = [tuple(text) for text in self.texts()]
        self.kept.append(Step(texts, totals.cpu(), self.rules.num_beams))
        return totals


class Beam(Method):
    """Our beam search."""

    def __init__(self, name: str, models: Models) -> None:
        self.name = name
        self.models = models
        self.beams = beams_of(name)
        self.compared_with = counterpart(name)
        self.decoder = Decoder(models.target)

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Hand the model to the loop."""
        with self.models.target.attached():
            yield

    def write(self, prompt: BenchPrompt, writing: Writing) -> Sample:
        """Write one text."""
        began = time.perf_counter()
        output = self.decoder.beam_search(
            prompt.text,
            num_beams=self.beams,
            max_new_tokens=writing.max_new_tokens,
            ignore_eos=True,
        )
        seconds = time.perf_counter() - began
        return Sample(
            output.tokens,
            seconds,
            ttft=seconds,
            first=len(output.tokens),
            forwards=output.stats.forwards,
            emitted=len(output.tokens) - 1,
            drafted=0,
            accepted=0,
            kv_bytes=output.stats.kv_bytes,
        )

    def rows(self, prompt: BenchPrompt, writing: Writing) -> tuple[list[int], list[Tensor]]:
        """Return the text alone: what it was chosen from is no row of logits."""
        return self.write(prompt, writing).tokens, []

    def explain(
        self,
        difference: Difference,
        reference: Method,
        prompt: BenchPrompt,
        writing: Writing,
        judge: Judge,
    ) -> Difference:
        """Search again in both ways, and look at the step where the beams part."""
        assert isinstance(reference, HuggingFaceBeam)
        with reference.ready():
            theirs = reference.trace(prompt, writing)
        with self.ready():
            ours = self.trace(prompt, writing)
        tokenizer: Any = self.models.target.tokenizer
        return explained(difference, tokenizer(prompt.text)["input_ids"], ours, theirs, judge)

    def trace(self, prompt: BenchPrompt, writing: Writing) -> Trace:
        """Search again."""
        clock = self.decoder.clock
        request = prepare(
            self.models.target,
            prompt.text,
            began=clock.read(),
            exact=True,
            max_new_tokens=writing.max_new_tokens,
            ignore_eos=True,
        )
        search = _Recorded(request, BeamRules(self.beams), clock)
        for _ in search:
            pass
        return Trace(search.kept, tuple(search.output.tokens))

    @property
    def settings(self) -> dict[str, Any]:
        """How many beams."""
        return {"beams": self.beams}


class HuggingFaceBeam(HuggingFace):
    """Beam search of transformers on the stock model."""

    def __init__(self, name: str, models: Models) -> None:
        super().__init__(name, models)
        self.beams = beams_of(name)
        self.compared_with = name

    def write(self, prompt: BenchPrompt, writing: Writing) -> Sample:
        """Write one text."""
        sample = super().write(prompt, writing)
        return replace(sample, ttft=sample.seconds, first=len(sample.tokens))

    def trace(self, prompt: BenchPrompt, writing: Writing) -> Trace:
        """Search again; its steps are found again from the scores it keeps."""
        more = {"output_scores": True, "return_dict_in_generate": True}
        ids = self._ids(prompt.text)
        out = self._generate(ids, self._config(writing, prompt, more))
        steps: list[Step] = []
        living: dict[tuple[int, ...], float] = {(): 0.0}
        for scores in out.scores:
            so_far = torch.tensor(list(living.values()), device=scores.device)
            totals = (scores[: len(living)] + so_far[:, None]).cpu()
            steps.append(Step(list(living), totals, self.beams))
            living = steps[-1].best(self.beams)
        return Trace(steps, tuple(out.sequences[0, ids.shape[1] :].tolist()))

    def _generate(
        self, ids: Tensor, config: Any, streamer: BaseStreamer | None = None, **more: Any
    ) -> Any:
        return super()._generate(ids, config, **more)  # it takes no streamer for beams

    def _options(self) -> dict[str, Any]:
        return {"num_beams": self.beams, "length_penalty": 1.0, "early_stopping": False}

    @property
    def settings(self) -> dict[str, Any]:
        """How many beams."""
        return {**super().settings, "beams": self.beams}


def explained(
    difference: Difference, prompt: Sequence[int], ours: Trace, theirs: Trace, judge: Judge
) -> Difference:
    """Return the difference of two texts with its kind.

    Up to the first step whose beams differ, both searches have the same choice to make. It is
    *numerical* if, of the continuations that only one of them took, no two have true
    log-probabilities further apart than twice the deviation of the searches there.

    Args:
        difference: as found, ``expected`` by transformers.
        prompt: its tokens.
        ours: our search.
        theirs: that of transformers.
        judge: knows the true log-probabilities.
    """
    again = [trace.text[difference.index] for trace in (theirs, ours)]
    if again != [difference.expected, difference.got]:
        return difference  # it did not come out the same again
    for number, (mine, other) in enumerate(zip(ours.steps, theirs.steps, strict=True)):
        if set(mine.paths) != set(other.paths):
            return difference  # its scores do not tell which of two equal beams transformers took
        chosen, rival = ours.chosen(number), theirs.chosen(number)
        if chosen == rival:
            continue
        true = {path: judge.true_totals(prompt, path) for path in mine.paths}
        deviation = deviation_of(
            [
                max(
                    float((row - true[path]).abs().max())
                    for path, row in zip(step.paths, step.totals, strict=True)
                )
                for step in (mine, other)
            ]
        )
        apart = max(
            abs(float(true[one[:-1]][one[-1]] - true[two[:-1]][two[-1]]))
            for one in chosen - rival
            for two in rival - chosen
        )
        kind: Kind = "numerical" if apart <= 2 * deviation else "bug"
        return replace(difference, kind=kind, distance=apart, deviation=deviation)
    return difference
