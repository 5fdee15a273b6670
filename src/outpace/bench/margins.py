"""How narrowly a token passes or misses the filters of a law: top-k, then top-p."""

import math

import torch
from torch import Tensor

_FARTHEST = 64.0
_HALVINGS = 60


def filter_margin(scores: Tensor, token: int, top_k: int | None, top_p: float | None) -> float:
    """Return how far scores have to move against each other for a token's lot to change.

    That is twice the least ε such that the filters decide otherwise about the token where every
    score moves by ε: of a token they keep, those that come above it up and all others down, of
    one they drop the reverse. It is to be held against the distance of two scores, which comes to
    nothing likewise where each moves by half of it. Infinite where no move changes anything.

    Args:
        scores: ``[V]``, float64, after penalties and temperature, before filters and noise.
        token: which one.
        top_k: how many of the best are kept; None is all.
        top_p: the fewest best whose probabilities reach this are kept of those; None is all.
    """
    if top_k is not None:  # the second filter sees what the first one leaves
        left = torch.topk(scores, min(top_k, len(scores))).indices
        mass = torch.full_like(scores, -math.inf)
        mass[left] = scores[left]
        mass[token] = scores[token]
    else:
        mass = scores
    weights = torch.exp(mass - mass.max())
    others = torch.ones_like(scores, dtype=torch.bool)
    others[token] = False

    def kept(move: float) -> bool:
        """Whether the token is kept if it gains ``move`` on those that stay above it."""
        above = others & (scores > scores[token] + move)
        if top_k is not None and int(above.sum()) >= top_k:
            return False
        # those above lose on all others what the token gains on them
        over = float(weights[above].sum())
        rest = float(weights[~above].sum()) * math.exp(move)
        return top_p is None or over / (over + rest) < top_p

    lot = kept(0.0)
    sign = -1.0 if lot else 1.0
    if kept(sign * _FARTHEST) == lot:
        return math.inf
    near, far = 0.0, _FARTHEST
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        near, far = (middle, far) if kept(sign * middle) == lot else (near, middle)
    return far
