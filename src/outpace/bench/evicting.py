"""What a model makes of a text while a cache policy forgets, token by token.

No law here comes from a forward over a whole text: a session reads up to the next boundary,
forgets, and reads on, so that each token is foretold from what is held at that moment and nothing
else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..cache.policies import make_policy
from ..cache.session import Session
from ..errors import InvalidArgument
from ..models import LanguageModel
from ..types import TokenTree
from .quality import laws
from .windows import WITHOUT_LIMIT, windows

CHUNK = 256
"""Tokens a forward reads at most, where no boundary comes before."""
DENSE = "full"
"""Nothing is forgotten; past the trained window positions go on, as in transformers."""
WINDOWS = "windows"
"""Nothing is held: each window of the model's context, half of it new, is computed anew."""

Rows = tuple[int, Tensor, Tensor]
"""The place of the first row, laws log p ``[n, V]`` of the tokens after it and the next ones, and
``[n]`` how many tokens each was foretold from; where heads differ, on average."""


@dataclass(slots=True)
class Stretch:
    """Sums over the scored tokens of a stretch of a text.

    Attributes:
        end: tokens of the text that are read at its end.
        tokens: how many were scored.
        nats: Σ −log p.
        right: how many of them were the most probable.
        held: Σ of the tokens each was foretold from.
        before: Σ of the tokens before each.
    """

    end: int
    tokens: int = 0
    nats: float = 0.0
    right: int = 0
    held: float = 0.0
    before: int = 0


def check_policy(policy: str) -> None:
    """Refuse a text that is no policy, dense reading or reading in windows.

    Raises:
        UnknownName: no such policy or setting.
        InvalidArgument: it cannot be read, or a value out of range.
    """
    if policy != WINDOWS:
        make_policy(policy)


@torch.inference_mode()
def read(
    model: LanguageModel, policy: str, ids: Sequence[int], *, first: int = 1, stretch: int = 0
) -> list[Stretch]:
    """Return what a policy makes of a text, stretch by stretch.

    Args:
        model: that reads.
        policy: its text, :data:`DENSE` or :data:`WINDOWS`.
        ids: the text; its last token is only foretold.
        first: the first token that is scored, from 1.
        stretch: tokens of a stretch, counted by what is read; 0 is one stretch for all.

    Raises:
        InvalidArgument: the model cannot read so far, or its logits are no numbers.
    """
    found: dict[int, Stretch] = {}
    for place, law, held in _rows(model, policy, ids[:-1]):
        skipped = max(0, first - 1 - place)
        for row in _runs(place + skipped, place + len(law), stretch):
            rows = slice(row.start - place, row.stop - place)
            wanted = torch.tensor(ids[row.start + 1 : row.stop + 1], device=law.device)
            end = (row.start // stretch + 1) * stretch if stretch else len(ids) - 1
            one = found.setdefault(end, Stretch(min(end, len(ids) - 1)))
            one.tokens += len(row)
            one.nats -= float(law[rows].gather(1, wanted[:, None]).double().sum())
            one.right += int((law[rows].argmax(dim=-1) == wanted).sum())
            one.held += float(held[rows].sum())
            one.before += sum(row) + len(row)
    if any(one.nats != one.nats for one in found.values()):
        raise InvalidArgument(
            f"{model.name} in {model.precision}: its logits are no numbers: give another dtype"
        )
    return [found[end] for end in sorted(found)]


def _runs(begin: int, end: int, stretch: int) -> Iterator[range]:
    """Yield the places from ``begin`` to ``end``, cut where a stretch ends."""
    while begin < end:
        until = min(end, (begin // stretch + 1) * stretch) if stretch else end
        yield range(begin, until)
        begin = until


def _rows(model: LanguageModel, policy: str, ids: Sequence[int]) -> Iterator[Rows]:
    if policy == WINDOWS:
        return _anew(model, ids)
    return evicted_laws(model, policy, ids)


def evicted_laws(model: LanguageModel, policy: str, ids: Sequence[int]) -> Iterator[Rows]:
    """Yield the laws of the tokens after each place of a text, as a session with a policy has them.

    Args:
        model: that reads.
        policy: its text; ``full`` is none.
        ids: what is read.

    Raises:
        InvalidArgument: the text is longer than the model can read so.
    """
    session = Session(model, make_policy(policy))
    _check_length(session, len(ids))
    place = 0
    while place < len(ids):
        count = min(CHUNK, len(ids) - place)
        if session.room is not None:
            count = min(count, max(1, session.room))
        before = len(session) - session.evicted
        tree = TokenTree.chain(ids[place], ids[place + 1 : place + count])
        logits = session.forward(tree)
        session.commit(tree, range(1, count))
        held = before + torch.arange(1, count + 1, dtype=torch.float64)
        yield place, torch.log_softmax(logits.float(), dim=-1), held
        session.forget()
        place += count


def _anew(model: LanguageModel, ids: Sequence[int]) -> Iterator[Rows]:
    """Yield the laws of windows that are computed anew, as ``outpace ppl`` reads."""
    size = model.context_length or WITHOUT_LIMIT
    for begin, first, end in windows(len(ids), size, max(1, size // 2)):
        for place, law in laws(model, ids[begin:end], first=first - begin):
            held = torch.arange(place + 1, place + 1 + len(law), dtype=torch.float64)
            yield begin + place, law, held


def _check_length(session: Session, length: int) -> None:
    """Refuse positions the model does not have at all; beyond its training RoPE still has some."""
    limit = session.limit
    rotary = getattr(session.model.config, "rope_parameters", None) is not None
    if limit is not None and length > limit and not (rotary and not session.forgets):
        raise InvalidArgument(
            f"{length} tokens with the cache policy {session.policy}: {session.model.name} has "
            f"positions for {limit}: give shorter texts"
        )
