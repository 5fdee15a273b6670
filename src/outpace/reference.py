"""The oracle: plain decoding without a cache, a tree or a drafter, in as few lines as it takes.

Every exactness test compares the loop with this or with transformers' own greedy generate. It
shares with the loop how a token is chosen (:mod:`outpace.sampling`) and nothing else.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .noise import Noise
from .sampling import Sampler, Sampling
from .types import Context


@torch.no_grad()
def decode(
    logits: Callable[[Tensor], Tensor],
    prompt: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    eos: frozenset[int] = frozenset(),
) -> list[int]:
    """Return the tokens plain decoding writes.

    Args:
        logits: from token ids ``[1, T]`` to logits ``[1, T, V]``, no cache
            (``lambda ids: model(ids).logits`` for a stock model).
        prompt: token ids.
        max_new_tokens: how many tokens to write at most.
        sampling: the law; None is greedy. Its seed must be given where it samples.
        eos: ids that end the text.
    """
    sampling = sampling or Sampling()
    context = Context(prompt)
    noise = Noise(sampling.seed or 0)
    sampler = Sampler(context, sampling.processors(), greedy=sampling.greedy, noise=noise)
    while len(context.output) < max_new_tokens:
        row = logits(torch.tensor([context.tokens]))[0, -1]
        context.extend([int(sampler.choose(row))])
        if context.tokens[-1] in eos:
            break
    return context.output
