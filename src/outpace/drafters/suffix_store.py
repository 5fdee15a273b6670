"""Texts that suffix decoding (arXiv 2411.04975) drafts from besides the one being written."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InvalidArgument
from .suffix_automaton import END, SuffixAutomaton

_FORMAT = "suffix-1"
_LARGEST = 2**31 - 1


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
        """Bytes held. Costs a look at every state."""
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
        if not 0 <= min(text) <= max(text) <= _LARGEST:
            raise InvalidArgument(
                f"a text with tokens from {min(text)} to {max(text)}: give 0 to {_LARGEST}"
            )
        if len(self._young) + len(text) + 1 > half:
            self._old, self._young = self._young, SuffixAutomaton(self.longest)
        self._young.read(text)
        self._young.finish()
        self.largest = max(self.largest, max(text))

    def clear(self) -> None:
        """Forget everything."""
        self._old, self._young = SuffixAutomaton(self.longest), SuffixAutomaton(self.longest)
        self.largest = -1

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the texts as safetensors: ``old [T]`` and ``young [U]``, int32, -1 ends a text."""
        from safetensors.torch import save_file

        parts = {
            "old": torch.tensor(self._old.tokens, dtype=torch.int32),
            "young": torch.tensor(self._young.tokens, dtype=torch.int32),
        }
        about = {
            "outpace": _FORMAT,
            "capacity": str(self.capacity),
            "longest": str(self.longest),
            "crc32": str(_checksum(parts)),
        }
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        save_file(parts, os.fspath(path), about)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SuffixStore:
        """Return a saved store; it knows what the saved one knew.

        Raises:
            InvalidArgument: the file is missing, no suffix store, or damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                about = file.metadata() or {}
                parts = {name: file.get_tensor(name) for name in ("old", "young")}
        except (OSError, SafetensorError) as error:
            raise InvalidArgument(
                f"{path}: not a saved suffix store: give a file of SuffixStore.save()"
            ) from error
        if about.get("outpace") != _FORMAT:
            raise InvalidArgument(
                f"{path}: not a suffix store of this version ({_FORMAT}): save it again"
            )
        capacity, longest = _number(about, "capacity"), _number(about, "longest")
        half = capacity // 2
        sound = all(_are_texts(part) and len(part) <= half for part in parts.values())
        if longest < 1 or not sound or _checksum(parts) != _number(about, "crc32"):
            raise InvalidArgument(f"{path}: a damaged suffix store: save it again")
        store = cls(capacity, longest=longest)
        for generation, part in ((store._old, parts["old"]), (store._young, parts["young"])):
            for token in part.tolist():
                if token == END:
                    generation.finish()
                else:
                    generation.read([token])
                store.largest = max(store.largest, token)
        return store


def _checksum(parts: dict[str, Tensor]) -> int:
    return zlib.crc32(b"".join(parts[name].numpy().tobytes() for name in ("old", "young")))


def _number(about: dict[str, str], name: str) -> int:
    """Return a number of the file's metadata, -1 where there is none."""
    text = about.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


def _are_texts(part: Tensor) -> bool:
    if part.dtype != torch.int32 or part.dim() != 1:
        return False
    return len(part) == 0 or bool(part.min() >= END and part[-1] == END)
