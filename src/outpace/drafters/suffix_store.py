"""Texts that suffix decoding (arXiv 2411.04975) drafts from besides the one being written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..models import LanguageModel
from .store_file import LARGEST, StoreFile
from .suffix_automaton import END, SuffixAutomaton

_FILE = StoreFile("suffix", 1, "suffix store", ("old", "young"))


class SuffixStore:
    """Past outputs or a corpus, bounded: the oldest texts are forgotten.

    There are two generations. The young one reads; when it holds half of the capacity, the old
    one is forgotten, the young one is the old one, and a new one begins. So between the last
    ``capacity / 2`` and the last ``capacity`` tokens are known, and what is known depends on the
    texts and their order alone.

    Whoever is handed a store can be proposed what is in it. Nothing but :meth:`add` writes to it.

    Args:
        capacity: how many tokens to keep, one for the end of each text included.
        longest: tokens of the longest string that is matched.

    Attributes:
        largest: the largest token ever added, -1 before the first.

    Raises:
        InvalidArgument: capacity below 4, longest below 1.
    """

    def __init__(self, capacity: int = 65_536, *, longest: int = 32) -> None:
        if capacity < 4:
            raise InvalidArgument(f"room for {capacity} tokens: give 4 or more")
        if longest < 1:
            raise InvalidArgument(f"matches of up to {longest} tokens: give 1 or more")
        self.capacity = capacity
        self.longest = longest
        self._old = SuffixAutomaton(longest)
        self._young = SuffixAutomaton(longest)
        self.largest = -1

    def __len__(self) -> int:
        """How many tokens are known, the ends of texts included."""
        return len(self._old) + len(self._young)

    @property
    def generations(self) -> tuple[SuffixAutomaton, SuffixAutomaton]:
        """What was read lately, and before that."""
        return self._young, self._old

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._old.nbytes + self._young.nbytes

    def add(self, text: Sequence[int]) -> None:
        """Learn a text; of one longer than half the capacity, the end alone.

        Raises:
            InvalidArgument: a token below 0 or above 2³¹ - 1.
        """
        half = self.capacity // 2
        text = text[-(half - 1) :]
        if not text:
            return
        if not 0 <= min(text) <= max(text) <= LARGEST:
            raise InvalidArgument(
                f"a text with tokens from {min(text)} to {max(text)}: give 0 to {LARGEST}"
            )
        if len(self._young) + len(text) + 1 > half:
            self._old, self._young = self._young, SuffixAutomaton(self.longest)
        self._young.read(text)
        self._young.finish()
        self.largest = max(self.largest, max(text))

    def add_files(
        self, model: LanguageModel, paths: Iterable[str | os.PathLike[str]]
    ) -> SuffixStore:
        """Learn text files, each as one text in the model's tokens; return the store itself.

        Raises:
            InvalidArgument: the model has no tokenizer, or a file cannot be read as UTF-8.
        """
        if model.tokenizer is None:
            raise InvalidArgument(f"{model.name} has no tokenizer: add() texts as token ids")
        for path in paths:
            try:
                text = Path(path).read_text(encoding="utf-8-sig")
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "no UTF-8"
                raise InvalidArgument(
                    f"{path}: {why}: give a text file that can be read"
                ) from error
            self.add(model.tokenizer(text, add_special_tokens=False)["input_ids"])
        return self

    def clear(self) -> None:
        """Forget everything."""
        self._old, self._young = SuffixAutomaton(self.longest), SuffixAutomaton(self.longest)
        self.largest = -1

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the texts as safetensors: ``old [T]`` and ``young [U]``, int32, -1 ends a text.

        A file that is there is replaced as a whole.

        Raises:
            InvalidArgument: the file cannot be written.
        """
        parts = {
            "old": torch.tensor(self._old.tokens, dtype=torch.int32),
            "young": torch.tensor(self._young.tokens, dtype=torch.int32),
        }
        _FILE.save(path, parts, {"capacity": self.capacity, "longest": self.longest})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SuffixStore:
        """Return a saved store; it knows what the saved one knew.

        Raises:
            InvalidArgument: the file is missing, no suffix store, or damaged.
        """
        parts, numbers = _FILE.load(path)
        capacity, longest = numbers.get("capacity", -1), numbers.get("longest", -1)
        sound = all(_are_texts(part) and len(part) <= capacity // 2 for part in parts.values())
        if capacity < 4 or longest < 1 or not sound:
            raise _FILE.damaged(path)
        store = cls(capacity, longest=longest)
        for generation, part in ((store._old, parts["old"]), (store._young, parts["young"])):
            for token in part.tolist():
                if token == END:
                    generation.finish()
                else:
                    generation.read([token])
                store.largest = max(store.largest, token)
        return store


def _are_texts(part: Tensor) -> bool:
    if part.dtype != torch.int32 or part.dim() != 1:
        return False
    return len(part) == 0 or bool(part.min() >= END and part[-1] == END)
