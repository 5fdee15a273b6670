"""Training text: whole books for prose, the Python standard library for code, as token chunks."""

import gzip
import json
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..data import VARIABLE, data_root
from ..errors import InvalidArgument

CODE_SHARE = 0.3
"""Of the tokens of a batch that are code."""
HELD_OUT = 2
"""Books, and one code file in a hundred, that no model is trained on: the validation text."""
_SKIPPED = {"site-packages", "encodings", "idlelib", "lib2to3", "pydoc_data"}
"""Folders of the standard library that are tables, programs' own texts, or not part of it."""

Tokens = npt.NDArray[np.uint16]


def books() -> Iterator[str]:
    """Yield the prose, one whole book at a time, in the order of the corpus.

    Raises:
        InvalidArgument: the data root has no corpus.
    """
    root = data_root()
    files = sorted((root / "corpus").glob("*.jsonl.gz")) if root else []
    if not files:
        raise InvalidArgument(f"no training text: {VARIABLE} must name a folder with corpus/")
    for file in files:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)["text"]


def sources() -> Iterator[str]:
    """Yield the files of the Python standard library, shuffled (seed 0), tests included."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [
        file
        for file in sorted(library.rglob("*.py"))
        if not _SKIPPED.intersection(file.relative_to(library).parts)
    ]
    random.Random(0).shuffle(files)
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a few tests of odd encodings
            continue
        if text.strip():
            yield text


def split(texts: list[str], held_out: int) -> tuple[list[str], list[str]]:
    """Return (training, validation): the last ``held_out`` texts are not trained on."""
    return texts[:-held_out], texts[-held_out:]


class Chunks:
    """Windows of equal length of one stream of tokens, in an order fixed by a seed.

    Window ``i`` is a function of ``(seed, i)`` alone, so a run that is resumed reads on where it
    stopped without any state; past the end of the stream the next pass has another order.
    """

    def __init__(self, tokens: Tokens, length: int, seed: int) -> None:
        self.tokens, self.length, self.seed = tokens, length, seed
        self.count = (len(tokens) - 1) // length
        self._passes: dict[int, npt.NDArray[np.int64]] = {}

    def __getitem__(self, index: int) -> Tokens:
        """Return ``length + 1`` tokens: inputs and, shifted by one, what follows them."""
        number, place = divmod(index, self.count)
        if number not in self._passes:
            order = np.random.default_rng([self.seed, self.length, number])
            self._passes = {number: order.permutation(self.count)}
        start = int(self._passes[number][place]) * self.length
        return self.tokens[start : start + self.length + 1]


class Mixture:
    """Rows of prose and code, ``CODE_SHARE`` of them code, spread evenly."""

    def __init__(self, prose: Tokens, code: Tokens, length: int, seed: int) -> None:
        self.prose, self.code = Chunks(prose, length, seed), Chunks(code, length, seed + 1)

    def rows(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Return rows ``first`` to ``first + count - 1``: ``[count, length + 1]``."""
        picked = []
        for row in range(first, first + count):
            before = int(row * CODE_SHARE)
            is_code = int((row + 1) * CODE_SHARE) > before
            picked.append(self.code[before] if is_code else self.prose[row - before])
        return np.stack(picked).astype(np.int64)
