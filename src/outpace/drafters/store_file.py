"""Files of stores: safetensors with a format, numbers and a checksum, replaced as a whole."""

from __future__ import annotations

import os
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InvalidArgument, VocabularyMismatch

LARGEST = 2_147_483_647
"""The largest token a store holds."""


@dataclass(frozen=True, slots=True)
class StoreFile:
    """One kind of file.

    Attributes:
        kind: names it in the file, with its version.
        version: of the format.
        what: what messages call the store.
        parts: its tensors, in the order the checksum goes over them.
    """

    kind: str
    version: int
    what: str
    parts: Sequence[str]

    def save(
        self, path: str | os.PathLike[str], parts: Mapping[str, Tensor], numbers: Mapping[str, int]
    ) -> None:
        """Write a file beside ``path`` and put it in its place: nobody sees half a file.

        Raises:
            InvalidArgument: it cannot be written.
        """
        from safetensors.torch import save

        about = {"outpace": f"{self.kind}-{self.version}", "crc32": str(self._checksum(parts))}
        about |= {name: str(number) for name, number in numbers.items()}
        place = Path(path)
        beside = place.parent / f".{place.name}.{secrets.token_hex(4)}"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                beside.write_bytes(save(dict(parts), about))
                os.replace(beside, place)
            finally:
                beside.unlink(missing_ok=True)
        except (OSError, ValueError) as error:  # ValueError: a name no file can have
            why = getattr(error, "strerror", None) or str(error)
            raise InvalidArgument(f"{path}: {why}: give a file that can be written") from error

    def load(self, path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Return the tensors and numbers of a file.

        A number that is missing or none is -1. What the tensors hold is the caller's to check.

        Raises:
            InvalidArgument: the file is missing, of another kind or version, or damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                about = file.metadata() or {}
                parts = {name: file.get_tensor(name) for name in self.parts}
        except (OSError, ValueError, SafetensorError) as error:
            raise InvalidArgument(self._foreign(path)) from error
        kind, _, version = about.get("outpace", "").partition("-")
        if kind != self.kind:
            raise InvalidArgument(self._foreign(path))
        if version != str(self.version):
            raise InvalidArgument(
                f"{path}: a file of version {version!r}, this version of the {self.what} is "
                f"{self.version}: save it again"
            )
        numbers = {name: _number(text) for name, text in about.items()}
        if numbers.get("crc32") != self._checksum(parts):
            raise self.damaged(path)
        return parts, numbers

    def damaged(self, path: str | os.PathLike[str]) -> InvalidArgument:
        """Return the error for a file that holds what no store is saved with."""
        return InvalidArgument(f"{path}: a damaged {self.what}: save it again")

    def _foreign(self, path: str | os.PathLike[str]) -> str:
        return f"{path}: not a saved {self.what}: give a file of its save()"

    def _checksum(self, parts: Mapping[str, Tensor]) -> int:
        total = 0
        for name in self.parts:
            content = parts[name].contiguous().flatten().view(torch.uint8)
            total = zlib.crc32(content.numpy().tobytes(), total)
        return total


def check_vocabulary(what: str, largest: int, vocabulary: int | None) -> None:
    """Compare the tokens of a store with those of a target, once there is one.

    Raises:
        VocabularyMismatch: the store holds a token that the target does not know.
    """
    if vocabulary is not None and largest >= vocabulary:
        raise VocabularyMismatch(
            f"the {what} holds token {largest}, the target knows {vocabulary} tokens: "
            "give a store of texts in the target's vocabulary"
        )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1
