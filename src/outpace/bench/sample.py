"""How texts are written, and what came of one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from ..types import Round
from .metrics import quantile
from .workloads import BenchPrompt

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Writing:
    """How every method writes.

    Attributes:
        max_new_tokens: of each text, or of each answer of a conversation.
        temperature: 0 is greedy.
        seed: of the noise, together with the prompt.
        top_k: keep the k best tokens.
        top_p: keep the fewest best tokens whose probabilities reach this sum.
        repetition_penalty: over prompt and output; 1 is none.
        ignore_eos: go on past the end, so that all texts have the same length.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    ignore_eos: bool = True

    def seed_for(self, prompt: BenchPrompt) -> int:
        """Return the seed of a prompt: another one for every text."""
        digest = hashlib.sha256(prompt.text.encode()).digest()
        return (self.seed + prompt.seed + int.from_bytes(digest[:4], "little")) % 2**31


@dataclass(frozen=True, slots=True)
class Gaps:
    """Times between emissions of one text, in seconds (inter-token latency, ITL).

    A round emits its tokens at once, so a gap is the time between two rounds' ends.
    """

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, times: Sequence[float]) -> "Gaps | None":
        """Return the gaps between these times; None where there are none."""
        gaps = sorted(b - a for a, b in pairwise(times))
        return cls(*(quantile(gaps, share) for share in (0.5, 0.9, 0.99))) if gaps else None


@dataclass(slots=True)
class Sample:
    """One text by one method. Times in seconds, from the text of the prompt to the new text.

    Attributes:
        tokens: the new ones; of a conversation those of all answers.
        seconds: all of it, tokenising in and out.
        ttft: until the first token.
        first: how many tokens came with the first one.
        forwards: of the target, those that only prefill apart.
        emitted: tokens those forwards wrote.
        drafted: draft tokens they verified.
        accepted: of those.
        kv_bytes: keys and values at the end, of target and drafter.
        store_bytes: what the drafter has learnt, or reads to draft, at the end.
        drafter_kv_bytes: of ``kv_bytes``, the draft model's.
        compressions: how often a cache policy has forgotten tokens of the target.
        evicted: how many; where layers and heads differ, on average.
        drafter_forwards: of the draft model, where there is one.
        drafting: seconds spent drafting, where it is known.
        verifying: seconds of the target's forwards and the verification, likewise.
        answers: how many tokens each answer of a conversation has; one for a text.
        waits: until the first token of each later answer, its prefill in.
        gaps: between emissions, where they are known; of a conversation, in the first answer.
        offered: draft tokens that were tried at each depth (all before them were accepted), where
            it is known.
        kept: of those, how many were accepted.
        joules: that the GPU took from prompt to text, where it has a counter.
        run: which run of a measurement that was taken up again it belongs to.
    """

    tokens: list[int]
    seconds: float
    ttft: float
    first: int
    forwards: int
    emitted: int
    drafted: int
    accepted: int
    kv_bytes: int
    store_bytes: int = 0
    drafter_kv_bytes: int = 0
    compressions: int = 0
    evicted: float = 0.0
    drafter_forwards: int | None = None
    drafting: float | None = None
    verifying: float | None = None
    answers: list[int] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    gaps: Gaps | None = None
    offered: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    joules: float | None = None
    run: int = 1

    @property
    def tpot(self) -> float | None:
        """Time per output token after those that came first; None where there are none."""
        later = len(self.tokens) - self.first
        return (self.seconds - self.ttft - sum(self.waits)) / later if later > 0 else None

    @property
    def tokens_per_second(self) -> float:
        """New tokens over the whole time."""
        return len(self.tokens) / self.seconds

    def then(self, later: "Sample") -> "Sample":
        """Return both answers as one sample: what is held is that of the later one."""
        return Sample(
            self.tokens + later.tokens,
            self.seconds + later.seconds,
            self.ttft,
            first=self.first + later.first,
            forwards=self.forwards + later.forwards,
            emitted=self.emitted + later.emitted,
            drafted=self.drafted + later.drafted,
            accepted=self.accepted + later.accepted,
            kv_bytes=later.kv_bytes,
            store_bytes=later.store_bytes,
            drafter_kv_bytes=later.drafter_kv_bytes,
            compressions=self.compressions + later.compressions,
            evicted=self.evicted + later.evicted,
            drafter_forwards=_sum(self.drafter_forwards, later.drafter_forwards),
            drafting=_sum(self.drafting, later.drafting),
            verifying=_sum(self.verifying, later.verifying),
            answers=self.answers + later.answers,
            waits=[*self.waits, later.ttft, *later.waits],
            gaps=self.gaps,
            offered=_added(self.offered, later.offered),
            kept=_added(self.kept, later.kept),
        )


def depths(rounds: Sequence[Round]) -> tuple[list[int], list[int]]:
    """Return how many draft tokens were tried and accepted at each depth, of chains and trees.

    A depth is tried where everything above it was accepted and a draft token stands there; what
    lies past the end of the text does not count.
    """
    offered: list[int] = []
    kept: list[int] = []
    for turn in rounds:
        path, accepted = turn.verdict.path, turn.kinds.count("accepted")
        last = path[-1] if path else 0
        goes_on = len(turn.kinds) > accepted  # or the text ended on an accepted token
        more = goes_on and accepted == len(path) and last in turn.tree.lists()[1]
        for depth in range(accepted + more):
            if depth == len(offered):
                offered.append(0)
                kept.append(0)
            offered[depth] += 1
            kept[depth] += depth < accepted
    return offered, kept


def _sum(one: Number | None, other: Number | None) -> Number | None:
    return None if one is None or other is None else one + other


def _added(one: Sequence[int], other: Sequence[int]) -> list[int]:
    longest = max(len(one), len(other))
    padded = [[*each, *[0] * (longest - len(each))] for each in (one, other)]
    return [a + b for a, b in zip(*padded, strict=True)]
