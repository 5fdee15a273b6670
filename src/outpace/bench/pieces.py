"""Documents as tokens, with their words and bytes counted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class Document(NamedTuple):
    """A text and its name."""

    name: str
    text: str


class Piece(NamedTuple):
    """A document as tokens.

    Attributes:
        name: of the document.
        ids: its tokens, BOS included.
        words: pieces of the text between white space.
        bytes: of the text in UTF-8.
    """

    name: str
    ids: list[int]
    words: int
    bytes: int

    @property
    def scored(self) -> int:
        """How many tokens have one before them."""
        return max(0, len(self.ids) - 1)


def pieces(
    tokenizer: Any, documents: Sequence[str | Document], bos: int | None, limit: int | None
) -> Iterator[Piece]:
    """Yield documents as tokens until ``limit`` of them are to be scored.

    Args:
        tokenizer: of the model.
        documents: texts; those without a name are numbered.
        bos: the token before each; None is none.
        limit: tokens that are scored at most; the document it falls into is cut there.
    """
    front = [] if bos is None else [bos]
    left = limit
    for number, one in enumerate(documents, start=1):
        name, text = one if isinstance(one, Document) else (f"text {number}", one)
        # verbose is a warning of texts longer than the context, which is what windows are for
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if left is not None:
            if left < 1:
                return
            room = left + 1 - len(front)
            if len(ids) > room:
                text, ids = _beginning(tokenizer, text, ids[:room]), ids[:room]
        piece = Piece(name, [*front, *ids], len(_SPACE.split(text)), len(text.encode()))
        yield piece
        if left is not None:
            left -= piece.scored


_SPACE = re.compile(r"\s+")


def _beginning(tokenizer: Any, text: str, ids: list[int]) -> str:
    """Return the part of a text that its first tokens stand for."""
    if not tokenizer.is_fast:
        return str(tokenizer.decode(ids))
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return text[: found["offset_mapping"][len(ids) - 1][1]]
