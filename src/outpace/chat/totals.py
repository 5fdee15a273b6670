"""What a conversation's answers of one method add up to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .reply import Reply


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the answers of one method.

    Attributes:
        method: its name.
        messages: answers with a token at least.
        new_tokens: tokens written.
        seconds: from each message to its last token.
        ttft: the median of the times to the first token, in seconds.
        drafted: draft tokens.
        accepted: of these.
        rounds: target forwards after the prefills.
        emitted: tokens of these rounds.
        gain: how many times as fast as the plain answers, over the messages both answered in the
            same way; None without any.
    """

    method: str
    messages: int
    new_tokens: int
    seconds: float
    ttft: float
    drafted: int
    accepted: int
    rounds: int
    emitted: int
    gain: float | None

    @property
    def tokens_per_second(self) -> float:
        """New tokens over the time they took."""
        return self.new_tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def acceptance_rate(self) -> float:
        """Accepted draft tokens over draft tokens; 0 without any."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def mean_acceptance_length(self) -> float:
        """Tokens a target forward after the prefills, every round counted."""
        return self.emitted / self.rounds if self.rounds else 0.0


def totals(turns: Iterable[Sequence[Reply]], plain: str) -> list[Totals]:
    """Return the sums of each method, in the order in which they first answered.

    Args:
        turns: the answers to each message.
        plain: the method the others are compared with.
    """
    written: dict[str, list[tuple[Reply, Reply | None]]] = {}
    for replies in turns:
        base = next((one for one in replies if one.method == plain), None)
        for one in replies:
            if one.stats.new_tokens:
                written.setdefault(one.method, []).append((one, base))
    return [_sum(method, pairs) for method, pairs in written.items()]


def _sum(method: str, pairs: Sequence[tuple[Reply, Reply | None]]) -> Totals:
    replies = [one for one, _ in pairs]
    compared = [(one, base) for one, base in pairs if base and one.gain(base) is not None]
    own = sum(one.stats.total for one, _ in compared)
    tokens = sum(one.stats.new_tokens for one, _ in compared)
    theirs = sum(base.stats.total for _, base in compared)
    their_tokens = sum(base.stats.new_tokens for _, base in compared)
    firsts = sorted(one.stats.ttft for one in replies)
    return Totals(
        method=method,
        messages=len(replies),
        new_tokens=sum(one.stats.new_tokens for one in replies),
        seconds=sum(one.stats.total for one in replies),
        ttft=(firsts[(len(firsts) - 1) // 2] + firsts[len(firsts) // 2]) / 2,
        drafted=sum(one.stats.drafted for one in replies),
        accepted=sum(one.stats.accepted for one in replies),
        rounds=sum(one.stats.rounds for one in replies),
        emitted=sum(one.stats.emitted for one in replies),
        gain=(tokens / own) / (their_tokens / theirs) if compared and own and theirs else None,
    )
