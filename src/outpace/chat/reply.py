"""One method's answer to one message, round by round, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..decoder import Decoder, Stream
from ..models import LanguageModel
from ..output import Output, Stats
from ..types import Round


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is finished, or was stopped.

    Attributes:
        method: who wrote it.
        output: text, tokens and figures.
        prompt_length: tokens of the prompt.
        held: how many of them the session held already.
        interrupted: it was stopped before its end.
        same_text: whether plain decoding of the same model writes the same, also when sampling.
        runtime: how forwards were run; two names if that changed in between.
        compiling: another process still compiles a model of it, so it will be faster later.
    """

    method: str
    output: Output
    prompt_length: int
    held: int
    interrupted: bool
    same_text: bool
    runtime: str
    compiling: bool

    @property
    def stats(self) -> Stats:
        """Its figures, from the message on: making the prompt is part of them."""
        return self.output.stats

    def gain(self, plain: Reply) -> float | None:
        """Return how many times as fast as another answer it was; None where that says nothing.

        That is: one of both has no token or was stopped, or they were not run in the same way.
        """
        fair = self.runtime == plain.runtime and "→" not in self.runtime
        whole = not (self.interrupted or plain.interrupted)
        theirs = plain.stats.tokens_per_second
        return self.stats.tokens_per_second / theirs if fair and whole and theirs else None

    def differs_at(self, plain: Reply) -> int | None:
        """Return the first token at which two answers differ, from 0; None where they do not.

        Of an answer that was stopped, what there is counts.
        """
        ours, theirs = self.output.tokens, plain.output.tokens
        pairs = enumerate(zip(ours, theirs, strict=False))
        place = next((at for at, (one, other) in pairs if one != other), None)
        if place is None and len(ours) != len(theirs):
            shorter = self if len(ours) < len(theirs) else plain
            return None if shorter.interrupted else min(len(ours), len(theirs))
        return place


class Answering:
    """The rounds of an answer under way: iterate over them; :attr:`reply` is what there is.

    Args:
        method: who writes.
        decoder: its.
        stream: that writes.
        wording: seconds it took to make the prompt.
        prompt_length: see :class:`Reply`; likewise ``held``.
    """

    def __init__(
        self,
        method: str,
        decoder: Decoder,
        stream: Stream,
        *,
        wording: float,
        prompt_length: int,
        held: int,
    ) -> None:
        self.method, self.decoder = method, decoder
        self._stream, self._wording = stream, wording
        self._prompt_length, self._held = prompt_length, held
        self._before = self._runtime()

    def __iter__(self) -> Iterator[Round]:
        return iter(self._stream)

    @property
    def reply(self) -> Reply:
        """The answer as far as it has come."""
        output = self._stream.output
        stats, now = output.stats, self._runtime()
        if stats.new_tokens:
            first, total = stats.ttft + self._wording, stats.total + self._wording
            stats = replace(stats, ttft=first, total=total)
        return Reply(
            method=self.method,
            output=replace(output, stats=stats),
            prompt_length=self._prompt_length,
            held=self._held,
            interrupted=stats.end is None,
            same_text=self.decoder.verifier.same_text,
            runtime=now if now == self._before else f"{self._before} → {now}",
            compiling=any(model.is_being_compiled for model in self._models),
        )

    @property
    def _models(self) -> list[LanguageModel]:
        return [self.decoder.target, *self.decoder.drafter.models]

    def _runtime(self) -> str:
        return self.decoder.target.runtime_name
