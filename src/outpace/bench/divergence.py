"""How far a model's laws are from those of another: KL divergence and agreement, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..models import LanguageModel
from .metrics import Interval, bootstrap, quantile
from .quality import laws, nats


@dataclass(slots=True)
class Quality:
    """What a model makes of some texts, each token after all before it in its text.

    Attributes:
        nats: −log p of each text, the first token apart.
        tokens: that were scored, of each text.
        kl: Σ KL(reference ‖ model) of each text, in nats; empty without a reference.
        agreeing: tokens of each text whose most probable one is the reference's.
        p99: of the divergence of single tokens.
        largest: likewise.
    """

    nats: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    agreeing: list[int] = field(default_factory=list)
    p99: float | None = None
    largest: float | None = None

    @property
    def ppl(self) -> Interval:
        """The perplexity, and its interval by drawing texts."""
        return _mean(self.nats, self.tokens, lambda mean: float(np.exp(min(mean, 700.0))))

    @property
    def mean_kl(self) -> Interval | None:
        """Mean divergence a token, in nats; None without a reference."""
        return _mean(self.kl, self.tokens) if self.kl else None

    @property
    def agreement(self) -> Interval | None:
        """Share of tokens whose most probable one is the reference's; None without one."""
        return _mean(self.agreeing, self.tokens) if self.kl else None


class Laws:
    """A file of laws, log p ``[tokens, V]`` in float32: what a reference leaves behind.

    Args:
        path: of the file, in numpy's format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, tokens: int, vocabulary: int) -> Any:
        """Return an empty array, on the disk, to write them into."""
        shape = (tokens, vocabulary)
        return np.lib.format.open_memmap(self.path, mode="w+", dtype=np.float32, shape=shape)

    def read(self) -> Any:
        """Return them, read from the disk as they are needed."""
        return np.load(self.path, mmap_mode="r")


def examine(
    model: LanguageModel,
    texts: Sequence[Sequence[int]],
    *,
    reference: Laws | None = None,
    keep: Laws | None = None,
) -> Quality:
    """Read texts with a model and weigh every token but the first of each.

    Args:
        model: whose laws.
        texts: token ids of each, two or more.
        reference: the laws to compare with, of the same texts.
        keep: where to leave its own laws.

    Raises:
        InvalidArgument: laws of another vocabulary or of other texts, or logits that are no
            numbers, as where they are too large for float16.
    """
    scored = sum(len(ids) - 1 for ids in texts)
    before = None if reference is None else reference.read()
    if before is not None and before.shape != (scored, model.vocabulary):
        raise InvalidArgument(
            f"{model.name} has {model.vocabulary} tokens and {scored} places, the reference "
            f"{before.shape[1]} and {before.shape[0]}: compare precisions of one model"
        )
    after = None if keep is None else keep.make(scored, model.vocabulary)
    found, each, place = Quality(), list[float](), 0
    for ids in texts:
        total, divergence, agreeing, start = 0.0, 0.0, 0, place
        for begin, law in laws(model, ids[:-1]):
            rows = slice(start + begin, start + begin + len(law))
            one = nats(law, ids[begin + 1 : begin + 1 + len(law)])
            if one != one:
                raise InvalidArgument(
                    f"{model.name} in {model.precision}: its logits are no numbers: its values do "
                    "not fit this dtype, give bfloat16 or float32"
                )
            total += one
            if after is not None:
                after[rows] = law.cpu().numpy()
            if before is not None:
                wanted = torch.from_numpy(before[rows].copy()).to(law.device)
                kl = divergences(wanted, law)
                each += kl.tolist()
                divergence += float(kl.sum())
                agreeing += int((wanted.argmax(-1) == law.argmax(-1)).sum())
        place += len(ids) - 1
        found.nats.append(total)
        found.tokens.append(len(ids) - 1)
        if before is not None:
            found.kl.append(divergence)
            found.agreeing.append(agreeing)
    if each:
        found.p99, found.largest = quantile(sorted(each), 0.99), max(each)
    if after is not None:
        after.flush()
    return found


def divergences(wanted: Tensor, law: Tensor) -> Tensor:
    """Return KL(p ‖ q) in nats of every row, ``[n]`` in float64; exactly 0 where both are equal.

    Args:
        wanted: log p ``[n, V]``, of the reference.
        law: log q ``[n, V]``.
    """
    p = wanted.exp()
    terms = torch.where(p > 0, p * (wanted - law), 0.0)  # 0 · log 0 is 0
    return terms.sum(-1, dtype=torch.float64)


def _mean(
    sums: Sequence[float], tokens: Sequence[int], of: Callable[[float], float] = float
) -> Interval:
    units = [[(one, count)] for one, count in zip(sums, tokens, strict=True)]

    def mean(drawn: Sequence[tuple[float, int]]) -> float:
        return of(sum(one for one, _ in drawn) / sum(count for _, count in drawn))

    return bootstrap(units, mean)
