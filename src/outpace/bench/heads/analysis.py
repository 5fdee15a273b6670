"""Texts read chunk by chunk while every head is watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from ...cache import Session
from ...cache.budgets import HeadBudgets
from ...errors import InvalidArgument, ModelError, PromptError, UnsupportedModel
from ...models import LanguageModel
from ...models.observing import observed
from ...models.probe import layer_shapes
from ..keeping import Notify, silent
from ..pieces import Document
from ..windows import LONGEST, reading
from .classes import budget, classify, importance
from .head import FIRST, MEASURES, SINKS, WINDOWS, Head, head_of, row_sums

CHUNK = 128
"""Rows computed at a time: attention weights take ``4 · heads · chunk · tokens`` bytes."""
LIMIT = 4
"""Texts of each source that are read."""
_LONGEST_TOKEN = 32
"""Characters, with much room: what is tokenised of a text for each token that is read."""


@dataclass(frozen=True, slots=True)
class Read:
    """A text that was read.

    Attributes:
        source: of the text.
        name: of the text in it.
        tokens: that were read, BOS included.
        rows: of them that were measured.
    """

    source: str
    name: str
    tokens: int
    rows: int


@dataclass(frozen=True, slots=True)
class Heads:
    """What the heads of a model do on texts, every row alike.

    Attributes:
        model: its name.
        precision: of its weights.
        layers: of each layer, its query heads in the model's order.
        kv_heads: how many key-value heads each layer has.
        texts: what was read.
        left_out: what was not, and why.
        chunk: rows computed at a time.
        note: what must be known of the figures; None is nothing.
        interrupted: there were more texts.
    """

    model: str
    precision: str
    layers: tuple[tuple[Head, ...], ...]
    kv_heads: tuple[int, ...]
    texts: tuple[Read, ...]
    left_out: tuple[str, ...]
    chunk: int
    note: str | None = None
    interrupted: bool = False

    def of_all(self, value: Callable[[Head], Any]) -> list[list[Any]]:
        """Return a value of every head, by layer."""
        return [[value(head) for head in layer] for layer in self.layers]

    @property
    def rows(self) -> int:
        """How many rows were measured."""
        return sum(text.rows for text in self.texts)

    @property
    def budgets(self) -> HeadBudgets:
        """What to keep for each key-value head."""
        layers = []
        for heads, count in zip(self.layers, self.kv_heads, strict=True):
            size = len(heads) // count
            layers.append(
                tuple(budget(heads[one * size : (one + 1) * size]) for one in range(count))
            )
        return HeadBudgets(self.model, SINKS, tuple(layers))

    def record(self) -> dict[str, Any]:
        """Return all figures as values that JSON has; HeadBudgets reads its part of them back."""
        return {
            **self.budgets.record(),
            "precision": self.precision,
            "heads": [len(layer) for layer in self.layers],
            "windows": list(WINDOWS),
            "first_row": FIRST,
            "chunk": self.chunk,
            "rows": self.rows,
            "texts": [asdict(text) for text in self.texts],
            "left_out": list(self.left_out),
            "note": self.note,
            "interrupted": self.interrupted,
            "measures": {name: self.of_all(value) for name, value in MEASURES.items()},
            "classes": self.of_all(classify),
            "importance": self.of_all(importance),
        }


class Analysis:
    """The texts whose attention is to be looked at, as tokens.

    Args:
        model: with a tokenizer.
        sources: texts by where they are from; those of too few tokens are left out.
        tokens: that are read of a text at most; None is the model's context but at most 2,048.
        chunk: rows computed at a time.
        limit: texts of each source at most.

    Attributes:
        steps: chunks to read.

    Raises:
        InvalidArgument: a value outside its range, or more tokens than the model has positions.
        PromptError: the model has no tokenizer, or no text is long enough.
    """

    def __init__(
        self,
        model: LanguageModel,
        sources: Mapping[str, Sequence[Document]],
        *,
        tokens: int | None = None,
        chunk: int = CHUNK,
        limit: int = LIMIT,
    ) -> None:
        check_reading(tokens, chunk, limit)
        if model.tokenizer is None:
            raise PromptError(
                f"{model.name} has no tokenizer that can be read, so it cannot take a text: "
                "put the model's tokenizer files (tokenizer.json) into its folder"
            )
        self._model, self._chunk = model, chunk
        self._tokens = min(model.context_length or LONGEST, LONGEST) if tokens is None else tokens
        if self._tokens <= FIRST:
            raise InvalidArgument(
                f"{model.name} has a context of {self._tokens} tokens, measuring begins after "
                f"{FIRST}: take another model"
            )
        self._note = _beyond(model, self._tokens)
        self._left_out: list[str] = []
        self._texts: list[tuple[str, str, list[int]]] = []
        for source, documents in sources.items():
            self._take(source, documents, limit)
        if not self._texts:
            raise PromptError(
                f"no text has more than {FIRST} tokens, which measuring begins after: give a "
                "longer text"
            )
        self.steps = sum(-(-len(ids) // chunk) for _, _, ids in self._texts)

    def _take(self, source: str, documents: Sequence[Document], limit: int) -> None:
        bos = reading(self._model).bos
        tokenizer: Any = self._model.tokenizer
        short, taken = 0, 0
        for one in documents:
            if taken == limit:
                break
            text = one.text[: _LONGEST_TOKEN * self._tokens]
            # verbose is a warning of texts longer than the context, which is cut off here
            ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            ids = [*([] if bos is None else [bos]), *ids][: self._tokens]
            if len(ids) > FIRST:
                self._texts.append((source, one.name, ids))
                taken += 1
            else:
                short += 1
        if short:
            self._left_out.append(f"{source}: {short} of {short + taken} texts, too short")

    def run(self, notify: Notify = silent) -> Heads:
        """Read everything; an interrupt ends it with the texts that are done, if any.

        Args:
            notify: told of each chunk.

        Raises:
            ModelError: attention weights are no numbers.
        UnsupportedModel: layers that share keys and values.
        """
        sums: dict[int, Tensor] = {}
        done: list[Read] = []
        interrupted = False
        try:
            for source, name, ids in self._texts:
                fresh = self._summed(name, ids, notify)
                sums = {layer: found + sums.get(layer, 0) for layer, found in fresh.items()}
                done.append(Read(source, name, len(ids), len(ids) - FIRST))
        except KeyboardInterrupt:
            if not done:
                raise
            interrupted = True
        rows = sum(text.rows for text in done)
        layers = tuple(tuple(head_of(one, rows) for one in sums[layer]) for layer in sorted(sums))
        return Heads(
            self._model.name,
            self._model.precision,
            layers,
            tuple(self._kv_heads(layers)),
            tuple(done),
            tuple(self._left_out),
            self._chunk,
            self._note,
            interrupted,
        )

    def _summed(self, name: str, ids: list[int], notify: Notify) -> dict[int, Tensor]:
        """Return the sums over the rows of one text, by layer."""
        sums: dict[int, Tensor] = {}
        session = Session(self._model)
        session.reserve(len(ids))

        def add(layer: int, weights: Tensor) -> None:
            # a session that only grows has its tokens in the slots of their positions
            if start + weights.shape[1] > FIRST:
                sums[layer] = row_sums(weights, start) + sums.get(layer, 0)

        with observed(add):
            for start in range(0, len(ids), self._chunk):
                session.append(ids[start : start + self._chunk])
                notify(name)
        if not all(found.isfinite().all() for found in sums.values()):
            remedy = (
                "check its weights" if self._model.precision == "float32" else "give dtype float32"
            )
            raise ModelError(
                f"{self._model.name} in {self._model.precision}: its attention weights are no "
                f"numbers (NaN): {remedy}"
            )
        return sums

    def _kv_heads(self, layers: Sequence[Sequence[Head]]) -> Iterator[int]:
        shapes = layer_shapes(self._model)
        if len(shapes) != len(layers):
            raise UnsupportedModel(
                f"{self._model.name}: {len(layers)} layers attend and {len(shapes)} have keys, so "
                "that no budget can be given: take another model"
            )
        for (heads, _), _ in shapes:
            yield heads


def check_reading(tokens: int | None, chunk: int, limit: int) -> None:
    """Refuse what no model can be asked for.

    Raises:
        InvalidArgument: a value outside its range.
    """
    if tokens is not None and tokens <= FIRST:
        raise InvalidArgument(
            f"{tokens} tokens of a text: measuring begins after {FIRST}, give {FIRST + 1} or more"
        )
    if chunk < 1:
        raise InvalidArgument(f"a chunk of {chunk} rows: give 1 or more, like {CHUNK}")
    if limit < 1:
        raise InvalidArgument(f"a limit of {limit} texts: give 1 or more")


def _beyond(model: LanguageModel, tokens: int) -> str | None:
    """Return what to say of a text longer than the context.

    Raises:
        InvalidArgument: there are no positions for it.
    """
    limit = model.context_length
    if limit is None or tokens <= limit:
        return None
    # positions that are looked up in a table end where the table does
    if getattr(model.config, "rope_parameters", None) is None:
        raise InvalidArgument(
            f"{tokens} tokens of a text: {model.name} has positions for {limit}: give {limit} or "
            "less"
        )
    return (
        f"{tokens} tokens are beyond the context of {model.name} ({limit}): it was not trained at "
        f"these positions, and its heads may do something else there"
    )
