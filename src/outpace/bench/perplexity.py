"""Perplexity of texts under a model: by token, and as lm-evaluation-harness counts it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ..errors import InvalidArgument, ModelError, PromptError
from ..models import LanguageModel
from .keeping import Notify, silent
from .metrics import Interval, bootstrap
from .pieces import Document, Piece, pieces
from .quality import laws, nats
from .windows import Reading, Window, reading, windows


@dataclass(frozen=True, slots=True)
class Score:
    """What a model makes of one document.

    Attributes:
        name: of the document.
        nats: the sum of −log p of its scored tokens.
        tokens: how many were scored.
        words: pieces of the text between white space, as lm-evaluation-harness counts them.
        bytes: of the text in UTF-8.
    """

    name: str
    nats: float
    tokens: int
    words: int
    bytes: int


@dataclass(frozen=True)
class Perplexity:
    """What a model makes of documents, all weighted by their length.

    Attributes:
        documents: one score each.
        reading: how they were read.
        interrupted: there were more of them.
    """

    documents: tuple[Score, ...]
    reading: Reading
    interrupted: bool = False

    @property
    def nats(self) -> float:
        """The sum of −log p of all scored tokens."""
        return math.fsum(one.nats for one in self.documents)

    @property
    def tokens(self) -> int:
        """How many tokens were scored."""
        return sum(one.tokens for one in self.documents)

    @property
    def words(self) -> int:
        """How many words the documents have."""
        return sum(one.words for one in self.documents)

    @property
    def bytes(self) -> int:
        """How many bytes the documents have."""
        return sum(one.bytes for one in self.documents)

    @property
    def ppl(self) -> float:
        """exp(nats a token)."""
        return _exp(self.nats / self.tokens)

    @property
    def word_perplexity(self) -> float:
        """exp(nats a word)."""
        return _exp(self.nats / self.words)

    @property
    def byte_perplexity(self) -> float:
        """exp(nats a byte)."""
        return _exp(self.nats / self.bytes)

    @property
    def bits_per_byte(self) -> float:
        """Bits a byte: log2 of the byte perplexity."""
        return self.nats / self.bytes / math.log(2)

    @cached_property
    def interval(self) -> Interval:
        """The perplexity and its 95 % interval, found by drawing documents with replacement."""
        scored = [[(one.nats, one.tokens)] for one in self.documents if one.tokens]
        return bootstrap(scored, _ppl)

    def record(self) -> dict[str, Any]:
        """Return all figures as values that JSON has; None where a figure is infinite."""
        figures = ("ppl", "word_perplexity", "byte_perplexity", "bits_per_byte", "nats")
        bounds = {"ppl_low": self.interval.low, "ppl_high": self.interval.high}
        return {
            **{name: _finite(getattr(self, name)) for name in figures},
            **{name: _finite(value) for name, value in bounds.items()},
            **{name: getattr(self, name) for name in ("tokens", "words", "bytes")},
            "reading": asdict(self.reading),
            "interrupted": self.interrupted,
            "documents": [asdict(one) for one in self.documents],
        }


def perplexity(
    model: LanguageModel,
    documents: Sequence[str | Document],
    *,
    window: int | None = None,
    stride: int | None = None,
    bos: bool | None = None,
    convention: str = "tokens",
    limit: int | None = None,
) -> Perplexity:
    """Return the perplexity of documents; see :class:`Scoring` for arguments and errors."""
    return Scoring(
        model, documents, window=window, stride=stride, bos=bos, convention=convention, limit=limit
    ).run()


class Scoring:
    """The documents a model is to score, as tokens.

    A document is read in windows, each with as much of the text before its scored tokens as it
    has room for; the laws are the model's own, their logits taken to float32.

    Args:
        model: with a tokenizer.
        documents: texts; those without a name are numbered.
        window: tokens a forward reads, 2 or more; None is the model's context but at most
            2,048, or 1,024 where it sets no limit, in ``lm-eval`` the whole context.
        stride: tokens a window moves on by; None is half the window.
        bos: whether BOS (EOS where there is none) stands before every document, so that its
            first token is scored too; None does as the tokenizer does.
        convention: ``tokens``, or ``lm-eval``: as ``loglikelihood_rolling`` of
            lm-evaluation-harness reads, which is a stride of the whole window and always BOS.
        limit: tokens that are scored at most; what is beyond is neither read nor counted.

    Attributes:
        reading: how they are read.
        steps: windows to read.

    Raises:
        InvalidArgument: a value outside its range, or a model that cannot read so.
        PromptError: the model has no tokenizer, or there is no token to score.
        UnknownName: no such convention.
    """

    def __init__(
        self,
        model: LanguageModel,
        documents: Sequence[str | Document],
        *,
        window: int | None = None,
        stride: int | None = None,
        bos: bool | None = None,
        convention: str = "tokens",
        limit: int | None = None,
    ) -> None:
        check_limit(limit)
        if model.tokenizer is None:
            raise PromptError(
                f"{model.name} has no tokenizer that can be read, so it cannot take a text: "
                "put the model's tokenizer files (tokenizer.json) into its folder"
            )
        self.reading = reading(model, window=window, stride=stride, bos=bos, convention=convention)
        self._model = model
        self._pieces = list(pieces(model.tokenizer, documents, self.reading.bos, limit))
        if not any(piece.scored for piece in self._pieces):
            raise PromptError(
                "the text has no token to score, which takes one before it: give a longer text, "
                "or --bos"
            )
        self.steps = sum(sum(1 for _ in self._windows(piece)) for piece in self._pieces)

    def run(self, notify: Notify = silent) -> Perplexity:
        """Read everything; an interrupt ends it with the documents that are done, if any.

        Args:
            notify: told of each window.

        Raises:
            ModelError: the model's logits are no numbers.
        """
        done: list[Score] = []
        try:
            for piece in self._pieces:
                total = math.fsum(self._scored(piece, notify))
                done.append(Score(piece.name, total, piece.scored, piece.words, piece.bytes))
        except KeyboardInterrupt:
            if not any(score.tokens for score in done):
                raise
            return Perplexity(tuple(done), self.reading, interrupted=True)
        return Perplexity(tuple(done), self.reading)

    def _windows(self, piece: Piece) -> Iterator[Window]:
        return windows(piece.scored, self.reading.window, self.reading.stride)

    def _scored(self, piece: Piece, notify: Notify) -> Iterator[float]:
        """Yield the nats of a document part by part."""
        for begin, first, end in self._windows(piece):
            read = piece.ids[begin:end]
            for place, law in laws(self._model, read, first=first - begin):
                following = piece.ids[begin + place + 1 : begin + place + 1 + len(law)]
                found = nats(law, following)
                if math.isnan(found):
                    raise ModelError(_no_numbers(self._model))
                yield found
            notify(piece.name)


def check_limit(limit: int | None) -> None:
    """Refuse a limit that leaves nothing.

    Raises:
        InvalidArgument: it is below 1.
    """
    if limit is not None and limit < 1:
        raise InvalidArgument(f"a limit of {limit} tokens: give 1 or more")


def _no_numbers(model: LanguageModel) -> str:
    if model.precision == "float16":
        return (
            f"{model.name} in float16: its logits are no numbers (NaN), as where float16 "
            "overflows: give dtype bfloat16 or float32"
        )
    remedy = "check its weights" if model.precision == "float32" else "give dtype float32"
    return f"{model.name} in {model.precision}: its logits are no numbers (NaN): {remedy}"


def _ppl(scored: Sequence[tuple[float, int]]) -> float:
    return _exp(math.fsum(one for one, _ in scored) / sum(count for _, count in scored))


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
