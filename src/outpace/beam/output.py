"""What a beam search gives back, and what it tells on the way."""

from dataclasses import dataclass
from typing import Any

from .tree import BeamTree


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One text a beam search has found.

    Attributes:
        text: the new text; empty where the model has no tokenizer.
        tokens: the new token ids. A text ended by EOS has it as its last token.
        score: its log-probability under the length penalty; what texts are ranked by.
        log_prob: the sum of the log-probabilities of its tokens, logits processors applied.
        end: why it ends: ``eos``, ``stop``, ``length`` or ``context``; None for a beam that still
            grows, or that has nowhere to grow since every token is banned.
        node: of the tree, where it ends.
    """

    text: str
    tokens: list[int]
    score: float
    log_prob: float
    end: str | None
    node: int

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            "text": self.text,
            "tokens": self.tokens,
            "score": self.score,
            "log_prob": self.log_prob,
            "end": self.end,
            "node": self.node,
        }


@dataclass(frozen=True, slots=True)
class BeamStep:
    """One step of the search: every beam is one token longer.

    Attributes:
        index: 0 for the step that continues the prefill of the prompt.
        living: the nodes of the tree at which the beams end now, best first; none after the last.
        finished: the nodes at which texts ended in this step, best first.
        held: how many nodes the session held for the living beams, what all of them share apart.
    """

    index: int
    living: tuple[int, ...]
    finished: tuple[int, ...]
    held: int


@dataclass(slots=True)
class BeamStats:
    """Figures of one beam search. Times in seconds.

    Attributes:
        new_tokens: of the best text.
        steps: how many tokens long the longest beam became.
        forwards: of the target, those that only prefill apart: one a step after the first.
        computed: tokens those forwards computed, for all beams together.
        widest: the most nodes held at once for the living beams, what all of them share apart.
        ttft: from the request to the end of the first step. No token is certain yet by then.
        total: from the request to the end of the last step.
        kv_bytes: keys and values held at the end.
        over: whether the search came to its end.
    """

    new_tokens: int = 0
    steps: int = 0
    forwards: int = 0
    computed: int = 0
    widest: int = 0
    ttft: float = 0.0
    total: float = 0.0
    kv_bytes: int = 0
    over: bool = False

    @property
    def tokens_per_second(self) -> float:
        """Tokens of the best text over the wall time from the request to the last step."""
        return self.new_tokens / self.total if self.total > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as plain values, for JSON."""
        return {
            "new_tokens": self.new_tokens,
            "steps": self.steps,
            "forwards": self.forwards,
            "computed": self.computed,
            "widest": self.widest,
            "tokens_per_second": self.tokens_per_second,
            "ttft": self.ttft,
            "total": self.total,
            "kv_bytes": self.kv_bytes,
            "over": self.over,
        }


@dataclass(slots=True)
class BeamOutput:
    """The texts of a beam search.

    Attributes:
        hypotheses: the texts, best first.
        stats: figures.
        tree: everything that was explored.
    """

    hypotheses: list[Hypothesis]
    stats: BeamStats
    tree: BeamTree

    @property
    def text(self) -> str:
        """The best text."""
        return self.hypotheses[0].text if self.hypotheses else ""

    @property
    def tokens(self) -> list[int]:
        """Its tokens."""
        return self.hypotheses[0].tokens if self.hypotheses else []

    @property
    def score(self) -> float:
        """Its score; -inf where there is no text yet."""
        return self.hypotheses[0].score if self.hypotheses else float("-inf")
