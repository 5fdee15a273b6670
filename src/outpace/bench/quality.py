"""How probable a text is to the target: its perplexity, which says whether it is worth writing."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..models import LanguageModel
from ..models.step import cache_keyword

CHUNK = 512
"""Tokens a forward reads: their logits are all that is large."""


@torch.no_grad()
def laws(model: LanguageModel, ids: Sequence[int], first: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Yield the model's laws of the token after each place, :data:`CHUNK` places at a time.

    The stock model reads the text with a cache, so no more than one piece of logits is ever there.
    A law is the model's own, without temperature or penalties, in its own precision, its logits
    taken to float32.

    Args:
        model: whose laws.
        ids: a text that begins here: the first token has nothing before it.
        first: the first place whose law is wanted; what is before is read all the same.

    Yields:
        The place of the first row, and log p ``[n, V]`` in float32 where the model is; row i is
        the law of the token at that place + i + 1.
    """
    cache: Any = None
    name = cache_keyword(model.model)
    for begin in range(0, len(ids), CHUNK):
        piece = torch.tensor([ids[begin : begin + CHUNK]], device=model.device)
        # attached for this forward alone: whoever takes the pieces may run the loop in between
        with model.stock() as stock:
            stock_model: Any = stock
            out = stock_model(input_ids=piece, use_cache=True, **{name: cache})
        cache = out[name]
        skipped = max(0, first - begin)
        rows = out.logits[0, skipped:]
        del out
        if len(rows):
            yield begin + skipped, torch.log_softmax(rows.float(), dim=-1)


def nats(law: Tensor, next_ids: Sequence[int]) -> float:
    """Return the sum of −log p of tokens, summed in double precision.

    Args:
        law: log p ``[n, V]``.
        next_ids: the n tokens that did follow.
    """
    index = torch.tensor(next_ids, device=law.device)
    return -float(law.gather(1, index[:, None]).double().sum())


def surprise(model: LanguageModel, ids: Sequence[int], written: Sequence[bool]) -> float:
    """Return the sum of −log p, in nats, of the tokens that were written, each after all before.

    No token is left out but those of the prompt; for the laws see :func:`laws`.

    Args:
        model: the target.
        ids: prompt and new tokens.
        written: for each of them whether it is a new one; the first cannot be.
    """
    places = [place for place in range(1, len(ids)) if written[place]]
    if not places:
        return 0.0
    total = 0.0
    for begin, law in laws(model, ids[: places[-1]], first=places[0] - 1):
        chosen = [place for place in range(begin, begin + len(law)) if written[place + 1]]
        if chosen:
            rows = law[[place - begin for place in chosen]]
            total += nats(rows, [ids[place + 1] for place in chosen])
    return total
