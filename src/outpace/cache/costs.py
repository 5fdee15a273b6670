"""What a forward of a model costs here, by its width: a staircase, not a line."""

import time

import torch

from ..models import LanguageModel
from ..models.language_model import WIDTHS
from ..types import TokenTree
from .session import Session

HELD = 128
"""Tokens before the round that is timed, where the model takes so many."""
WIDTHS_TIMED = tuple(width for width in WIDTHS if width <= 64)
ROUNDS, SECONDS = 5, 0.5
"""A width is timed so often, or for so long where a forward is slow (but twice at least)."""


def forward_costs(model: LanguageModel) -> dict[int, float]:
    """Return the seconds of a forward over each static width of a round, the least of a few.

    Widths between two of them cost what the next one costs: rows are padded.
    """
    session = Session(model)
    costs = {}
    with model.attached():
        # the nodes of the round stand at the next two positions
        held = min(HELD, (model.context_length or HELD + 2) - 2)
        session.prefill([0] * max(1, held), room=max(WIDTHS_TIMED))
        for width in WIDTHS_TIMED:
            parents = torch.tensor([-1, *[0] * (width - 1)], device=model.device)
            tree = TokenTree(torch.zeros_like(parents), parents)
            session.forward(tree)  # the first one pays for what is built only once
            taken: list[float] = []
            while len(taken) < 2 or (len(taken) < ROUNDS and sum(taken) < SECONDS):
                session.abandon()
                began = time.perf_counter()
                session.forward(tree)[0, 0].item()  # waits for the device
                taken.append(time.perf_counter() - began)
            session.abandon()
            costs[width] = min(taken)
    return costs
