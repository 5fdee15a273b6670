"""The attention function the loop runs stock models with, registered under one name.

Keys and values come as views of the slot cache, the mask is additive and always given. Query
heads that share a key head are packed into rows, so keys and values are never repeated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from ..errors import UnsupportedModel
from .observing import observer
from .quiet import quiet

NAME = "outpace"

# What stock models pass along that changes nothing here: the mask already says who sees whom.
_IGNORED = frozenset(
    {
        "cache_position",
        "is_causal",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "position_ids",
        "return_dict",
        "sliding_window",
        "use_cache",
    }
)


def slot_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention over slots.

    Args:
        module: the calling layer; its ``layer_idx`` is what an observer is told.
        query: ``[1, H, W, D]``.
        key: ``[1, H_kv, S, D]``.
        value: ``[1, H_kv, S, D_v]``.
        attention_mask: additive, ``[1, 1, W, S]`` or packed ``[1, 1, H/H_kv · W, S]``.
        scaling: of the scores; None is 1/√D.
        dropout: must be 0; models are run in evaluation mode.
        softcap: cap scores at ±softcap by a tanh (Gemma 2).
        s_aux: ``[H]`` a sink score per head, part of the softmax only (gpt-oss).
        others: an unknown keyword with a value is refused.

    Returns:
        ``[1, W, H, D_v]`` and None.

    Raises:
        UnsupportedModel: the model asks for something this function does not know.
    """
    unknown = sorted(k for k, v in others.items() if k not in _IGNORED and v is not None)
    if unknown or dropout or attention_mask is None:
        reason = f"passes {', '.join(unknown)}" if unknown else "drops attention or gives no mask"
        raise UnsupportedModel(
            f"{type(module).__name__} {reason}, which attention over slots cannot honour: "
            "use transformers' own generate for this model"
        )
    batch, heads, width, _ = query.shape
    groups = heads // key.shape[1]
    mask = attention_mask.to(query.dtype)
    if mask.shape[2] == groups * width:
        query = query.reshape(batch, key.shape[1], groups * width, -1)
    else:
        mask = mask[:, :, :width]  # packed for another number of groups: this layer is its own
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    told = observer()
    if told is not None:
        q, k, m = (t.to(torch.float32) for t in (query, key, mask))
        # heads of a group are packed one after the other, so that this is the order of the heads
        told(
            _number(module),
            _weights(q, k, m, scaling, softcap, s_aux, width).view(heads, width, -1),
        )
    if softcap is None and s_aux is None and _narrowly(query):
        q, k, v, m = (t.to(torch.float32) for t in (query, key, value, mask))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=m, scale=scaling).to(value.dtype)
    elif softcap is None and s_aux is None:
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    else:
        out = _explicit(query, key, value, mask, scaling, softcap, s_aux, width)
    out = out.reshape(batch, heads, width, -1).transpose(1, 2).contiguous()
    return out, None


_NARROW = ContextVar("narrow", default=False)


@contextmanager
def narrow() -> Iterator[None]:
    """Trace attention as forwards of a few rows are best served."""
    token = _NARROW.set(True)
    try:
        yield
    finally:
        _NARROW.reset(token)


def _narrowly(query: Tensor) -> bool:
    """Return whether attention is to be computed in float32.

    On a CPU the fused kernel packs all keys and values before it begins, unless they are float32:
    for one row that takes several times what the row does.
    """
    low = query.device.type == "cpu" and query.dtype != torch.float32
    return low and (_NARROW.get() or query.shape[2] == 1)


def _explicit(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scaling: float | None,
    softcap: float | None,
    s_aux: Tensor | None,
    width: int,
) -> Tensor:
    """Attention written out, for score changes the fused kernel has no argument for."""
    return _weights(query, key, mask, scaling, softcap, s_aux, width).to(value.dtype) @ value


def _weights(
    query: Tensor,
    key: Tensor,
    mask: Tensor,
    scaling: float | None,
    softcap: float | None,
    s_aux: Tensor | None,
    width: int,
) -> Tensor:
    """Return the weights, float32 ``[1, H_kv, G·W, S]`` or ``[1, H, W, S]`` as the query is."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query @ key.transpose(2, 3) * scale  # [1, H_kv, G·W, S]
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores + mask
    if s_aux is None:
        return torch.softmax(scores.float(), dim=-1)
    # one more column for the softmax to put weight on; nothing is read there
    sink = s_aux.reshape(scores.shape[1], -1, 1).repeat_interleave(width, 1)  # [H_kv, G·W, 1]
    sink = sink[None].to(scores.dtype)
    return torch.softmax(torch.cat([scores, sink], dim=-1).float(), dim=-1)[..., :-1]


def _number(module: nn.Module) -> int:
    """Return the number of the layer that attends.

    Raises:
        UnsupportedModel: it does not know.
    """
    number = getattr(module, "layer_idx", None)
    if number is None:
        raise UnsupportedModel(
            f"{type(module).__name__} does not know the number of its layer (layer_idx), so its "
            "attention cannot be observed: take another model"
        )
    return int(number)


AttentionInterface.register(NAME, slot_attention)


def use_slot_attention(model: PreTrainedModel) -> None:
    """Make ``model`` call :func:`slot_attention`.

    Raises:
        UnsupportedModel: the model keeps its own attention whatever it is told.
    """
    with quiet():  # what it warns of is refused below
        model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        raise UnsupportedModel(
            f"{type(model).__name__} does not let its attention be replaced: "
            "use transformers' own generate for this model"
        )
