"""How probable a text is to the target: its perplexity, which says whether it is worth writing."""

from collections.abc import Sequence
from typing import Any

import torch

from ..models import LanguageModel
from ..models.step import cache_keyword

CHUNK = 512
"""Tokens a forward reads: their logits are all that is large."""


@torch.no_grad()
def surprise(model: LanguageModel, ids: Sequence[int], written: Sequence[bool]) -> float:
    """Return the sum of −log p, in nats, of the tokens that were written, each after all before.

    The law is the target's own, without temperature or penalties, in its own precision, its
    logits taken to float32; no token is left out but those of the prompt.

    Args:
        model: the target.
        ids: prompt and new tokens.
        written: for each of them whether it is a new one; the first cannot be.
    """
    total, cache = 0.0, None
    with model.stock() as stock:
        stock_model: Any = stock
        name = cache_keyword(stock)
        for begin in range(0, len(ids) - 1, CHUNK):
            end = min(begin + CHUNK, len(ids) - 1)
            piece = torch.tensor([ids[begin:end]], device=model.device)
            out = stock_model(input_ids=piece, use_cache=True, **{name: cache})
            cache = out[name]
            chosen = [place for place in range(begin, end) if written[place + 1]]
            if not chosen:
                continue
            rows = out.logits[0, [place - begin for place in chosen]].float()
            next_ids = torch.tensor([ids[place + 1] for place in chosen], device=model.device)
            law = torch.log_softmax(rows, dim=-1)
            total -= float(law.gather(1, next_ids[:, None]).double().sum())
    return total
