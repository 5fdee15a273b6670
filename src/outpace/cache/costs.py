"""What a forward of a model costs here, by its width: a staircase, not a line."""

import math
import time

import torch

from ..models import LanguageModel
from ..models.language_model import WIDTHS
from ..types import TokenTree
from .session import Session

HELD = 128
"""Tokens before the round that is timed, where the model takes so many."""
WIDTHS_TIMED = tuple(width for width in WIDTHS if width <= 64)
ROUNDS, SECONDS = 7, 3.0
"""All widths are timed so often, or for so long where a forward is slow (but once at least)."""


def forward_costs(
    model: LanguageModel, *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[int, float]:
    """Return the seconds of a forward over each static width of a round, the least of a few.

    Widths are timed in turn, so that a disturbance of the machine meets them all. Between two of
    them a width costs what the next one costs: rows are padded.

    Args:
        model: whose forwards.
        rounds: how often all widths are timed at most.
        seconds: after which no more are begun, but for the first one that counts.
    """
    session = Session(model)
    costs = dict.fromkeys(WIDTHS_TIMED, math.inf)
    with model.attached():
        # the nodes of the round stand at the next two positions
        held = min(HELD, (model.context_length or HELD + 2) - 2)
        session.prefill([0] * max(1, held), room=max(WIDTHS_TIMED))
        spent = 0.0
        for turn in range(rounds + 1):  # the first one pays for what is built only once
            for width in WIDTHS_TIMED:
                parents = torch.tensor([-1, *[0] * (width - 1)], device=model.device)
                tree = TokenTree(torch.zeros_like(parents), parents)
                began = time.perf_counter()
                session.forward(tree)[0, 0].item()  # waits for the device
                taken = time.perf_counter() - began
                session.abandon()
                spent += taken
                if turn:
                    costs[width] = min(costs[width], taken)
            if turn and spent > seconds:
                break
    return costs
