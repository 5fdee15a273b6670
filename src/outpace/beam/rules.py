"""The rules of a beam search: how many beams, how texts are ranked, when it is over."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypedDict

from ..cache import Session
from ..errors import InvalidArgument

Stop = bool | Literal["never"]
Penalty = Literal["power", "gnmt"]
MOST_BEAMS = 64
"""As many as the widest forward of a round has rows."""
STEEPEST = 20.0
"""Length penalties beyond it leave the range of a float in long texts."""

PENALTIES = {"power": 1.0, "gnmt": 1.2}
"""Kinds of length penalty, each with the exponent it has where none is given."""
GNMT_LENGTH = 5


class BeamSettings(TypedDict, total=False):
    """Settings of a beam search; all have defaults.

    Attributes:
        num_beams: how many texts grow at once (4); 1 is greedy decoding.
        length_penalty: its exponent (1 for ``power``, 1.2 for ``gnmt``).
        early_stopping: True, False (the default) or ``"never"``: see :class:`BeamRules`.
        penalty: ``power`` (the default) or ``gnmt``.
        num_return_sequences: how many texts to return (1).
        top_k: how many continuations a beam may offer (None: all).
        max_new_tokens: how many tokens to write at most (128).
        repetition_penalty: over prompt and beam; 1 is none. As in transformers it acts on the
            logits of one beam, and on the log-probabilities of several.
        no_repeat_ngram_size: no n-gram of this size twice; 0 is off.
        bad_words: texts or token sequences that must not appear.
        stop: a string or strings that end a text, which is cut before them.
        ignore_eos: go on past EOS, as benchmarks do.
        session: keeps keys and values between requests.
    """

    num_beams: int
    length_penalty: float | None
    early_stopping: Stop
    penalty: Penalty
    num_return_sequences: int
    top_k: int | None
    max_new_tokens: int
    repetition_penalty: float
    no_repeat_ngram_size: int
    bad_words: Sequence[str | Sequence[int]]
    stop: str | Sequence[str] | None
    ignore_eos: bool
    session: Session | None


@dataclass(frozen=True, slots=True)
class BeamRules:
    """Settings of a beam search; the defaults are those of transformers' ``generate``.

    Attributes:
        num_beams: how many texts grow at once; 1 is greedy decoding.
        length_penalty: the exponent α below; None is 1 for ``power`` and 1.2 for ``gnmt``.
        early_stopping: when to stop, once ``num_beams`` texts are finished. True: at once. False:
            when the best beam, scored at its present length, is no better than the worst of them.
            ``"never"``: when no beam can become better, taken at the length most in its favour.
        penalty: what a log-probability is divided by for a text of n new tokens. ``power``: n^α,
            as in transformers. ``gnmt``: ((5 + n) / 6)^α (arXiv 1609.08144).
        num_return_sequences: how many texts to return; fewer where fewer were found.
        top_k: how many continuations a beam may offer; None is all.
    """

    num_beams: int = 4
    length_penalty: float | None = None
    early_stopping: Stop = False
    penalty: Penalty = "power"
    num_return_sequences: int = 1
    top_k: int | None = None

    def __post_init__(self) -> None:
        """Check every type and range; raise InvalidArgument with the value and the remedy."""
        given = self.num_beams
        if not _whole(given) or not 1 <= given <= MOST_BEAMS:
            raise InvalidArgument(f"{given!r} beams: give a whole number from 1 to {MOST_BEAMS}")
        wanted = self.num_return_sequences
        if not _whole(wanted) or not 1 <= wanted <= given:
            raise InvalidArgument(
                f"{wanted!r} texts of {given} beams: give a whole number from 1 to {given}"
            )
        if self.top_k is not None and (not _whole(self.top_k) or self.top_k < 1):
            raise InvalidArgument(
                f"top-k {self.top_k!r} of a beam: give 1 or more, or None for all"
            )
        if not isinstance(self.penalty, str) or self.penalty not in PENALTIES:
            raise InvalidArgument(
                f"length penalty of kind {self.penalty!r}: choose one of {', '.join(PENALTIES)}"
            )
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise InvalidArgument(
                f'early stopping {self.early_stopping!r}: give True, False or "never"'
            )
        alpha: Any = self.length_penalty
        if alpha is None:
            alpha = PENALTIES[self.penalty]
        right = isinstance(alpha, Real) and not isinstance(alpha, bool)
        if not right or not abs(float(alpha)) <= STEEPEST:
            raise InvalidArgument(
                f"length penalty {alpha!r}: give a number from {-STEEPEST:g} to {STEEPEST:g}"
            )
        object.__setattr__(self, "length_penalty", float(alpha))

    @property
    def alpha(self) -> float:
        """The exponent of the length penalty."""
        assert self.length_penalty is not None
        return self.length_penalty

    def score(self, log_prob: float, length: int) -> float:
        """Return the score of a text of ``length`` >= 1 new tokens: the higher the better."""
        base = float(length)
        if self.penalty == "gnmt":
            base = (GNMT_LENGTH + length) / (GNMT_LENGTH + 1)
        return log_prob / math.pow(base, self.alpha)

    def offers(self, ends: int) -> int:
        """Return how many of the best continuations are looked at, given the number of end tokens.

        Each beam can end with each of them; as many beams as wanted are still left then.
        """
        return max(2, 1 + ends) * self.num_beams

    def is_over(self, finished: list[float], best: float, length: int, longest: int) -> bool:
        """Return whether no more texts are to be found, ``length`` tokens into the search.

        Args:
            finished: scores of the finished texts that are kept.
            best: log-probability of the best living beam.
            length: of the living beams.
            longest: the most tokens a text may have.
        """
        if len(finished) < self.num_beams:
            return False
        # with one beam transformers decodes greedily: the first end is the end
        if self.early_stopping is True or self.num_beams == 1:
            return True
        if self.early_stopping == "never" and self.alpha > 0:
            length = longest
        return self.score(best, length) <= min(finished)


def _whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
