"""What a request gives back: text, tokens and the figures of its rounds."""

from dataclasses import dataclass, field
from typing import Any

from .types import Round


@dataclass(slots=True)
class Stats:
    """Figures of one request, one definition each. Times in seconds.

    Attributes:
        new_tokens: tokens written.
        rounds: rounds after the prefill: one target forward each.
        drafted: draft tokens in those rounds.
        accepted: accepted draft tokens (no bonus), none beyond the end of the text.
        emitted: tokens those rounds wrote, the extra ones included.
        ttft: from the request to the first token, tokenising and all prefills included.
        total: from the request to the last token.
        drafting: time spent drafting.
        verifying: time spent in target forwards and verification.
        kv_bytes: keys and values held at the end, target and drafter.
        store_bytes: what the drafter has learnt, or reads to draft, at the end.
        compressions: how often a cache policy has forgotten tokens of the target.
        evicted_tokens: how many; where layers and heads differ, on average.
        seed: the seed of the noise (recorded also when none was given).
        exact: whether the text has the target's own law.
        end: why the text ended: ``eos``, ``stop``, ``length`` or ``context``; None before.
    """

    new_tokens: int = 0
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    emitted: int = 0
    ttft: float = 0.0
    total: float = 0.0
    drafting: float = 0.0
    verifying: float = 0.0
    kv_bytes: int = 0
    store_bytes: int = 0
    compressions: int = 0
    evicted_tokens: float = 0
    seed: int = 0
    exact: bool = True
    end: str | None = None
    _offered: list[int] = field(default_factory=list, repr=False)
    _kept: list[int] = field(default_factory=list, repr=False)

    def add(self, turn: Round) -> None:
        """Count a finished round; round 0 is the prefill."""
        self.new_tokens += len(turn.tokens)
        if turn.end is not None:
            self.end = turn.end
        if turn.index == 0:
            return
        accepted = sum(kind == "accepted" for kind in turn.kinds)
        self.rounds += 1
        self.drafted += turn.drafted
        self.accepted += accepted
        self.emitted += len(turn.tokens)
        self.drafting += turn.times.drafted - turn.times.started
        self.verifying += turn.times.verified - turn.times.drafted
        if turn.tree.is_chain:
            # depth i is tried only if all depths before it were accepted; past the end of the
            # text nothing counts
            whole = accepted == len(turn.verdict.path)
            tried = min(turn.drafted, accepted + whole)
            missing = max(0, tried - len(self._offered))
            self._offered += [0] * missing
            self._kept += [0] * missing
            for depth in range(tried):
                self._offered[depth] += 1
                self._kept[depth] += depth < accepted

    @property
    def acceptance_rate(self) -> float:
        """Accepted draft tokens over draft tokens; 0 without any."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def mean_acceptance_length(self) -> float:
        """Tokens per target forward after the prefill, every round counted."""
        return self.emitted / self.rounds if self.rounds else 0.0

    @property
    def per_depth_acceptance(self) -> list[float]:
        """For chains, the share accepted at each depth of the draft tokens that were tried."""
        return [k / n for k, n in zip(self._kept, self._offered, strict=True)]

    @property
    def tokens_per_second(self) -> float:
        """New tokens over the wall time from the request to the last token."""
        return self.new_tokens / self.total if self.total > 0 else 0.0

    @property
    def tpot(self) -> float:
        """Time per output token after the first."""
        return (self.total - self.ttft) / (self.new_tokens - 1) if self.new_tokens > 1 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as plain values, for JSON."""
        return {
            "new_tokens": self.new_tokens,
            "rounds": self.rounds,
            "drafted": self.drafted,
            "accepted": self.accepted,
            "acceptance_rate": self.acceptance_rate,
            "mean_acceptance_length": self.mean_acceptance_length,
            "per_depth_acceptance": self.per_depth_acceptance,
            "tokens_per_second": self.tokens_per_second,
            "ttft": self.ttft,
            "tpot": self.tpot,
            "total": self.total,
            "drafting": self.drafting,
            "verifying": self.verifying,
            "kv_bytes": self.kv_bytes,
            "store_bytes": self.store_bytes,
            "compressions": self.compressions,
            "evicted_tokens": self.evicted_tokens,
            "seed": self.seed,
            "exact": self.exact,
            "end": self.end,
        }


@dataclass(slots=True)
class Output:
    """A finished request.

    Attributes:
        text: the new text; empty where the model has no tokenizer.
        tokens: the new token ids. A text ended by EOS has it as its last token.
        stats: figures.
    """

    text: str
    tokens: list[int]
    stats: Stats
