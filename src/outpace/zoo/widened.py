"""A larger model that computes the same function: real text at the price of a larger model.

A trained model of the size one wants to measure at need not be there: the trained weights lie in
one corner of wider matrices, and what surrounds them cannot be seen in the logits. Acceptance is
then that of the trained model, and a forward costs what a forward of that size does.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from ..errors import InvalidArgument
from .shapes import Shape


@torch.no_grad()
def widened(model: PreTrainedModel, shape: Shape, *, seed: int = 0) -> LlamaForCausalLM:
    """Return a Llama of another shape, in float32, with the logits of the given one.

    The trained dimensions come first; beyond them every hidden state is 0, since nothing is
    embedded or written there. The root mean square over all dimensions is then smaller by
    ``sqrt(trained / all)``, which the weights of the norms and their epsilon make good. Added heads
    and inner units compute something that is multiplied by 0, and added layers, spread evenly
    between the trained ones, write nothing; what they read with is random, so that it costs what
    any weights cost.

    Args:
        model: a Llama with its own output layer, grouped queries or not.
        shape: at least as large in everything, with heads of the same size.
        seed: of the weights that make no difference.

    Raises:
        InvalidArgument: the model does not fit in.
    """
    small = cast(Any, model.config)
    config = LlamaConfig(**{**small.to_dict(), **shape.config()})
    places = _query_places(small, shape)
    if (
        shape.tied
        or small.tie_word_embeddings
        or config.vocab_size != small.vocab_size
        or config.head_dim != small.head_dim
        or shape.heads <= places[-1]
        or shape.hidden < small.hidden_size
        or shape.inner < small.intermediate_size
        or shape.layers < small.num_hidden_layers
    ):
        raise InvalidArgument(
            f"{shape} does not hold a model of {small.num_hidden_layers} layers, {places[-1] + 1} "
            f"heads of {small.head_dim}, {small.hidden_size} wide: give a larger shape, its output "
            "layer apart, with heads of this size"
        )
    config.rms_norm_eps = small.rms_norm_eps * small.hidden_size / shape.hidden
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wide: Any = LlamaForCausalLM(config).eval()
    loudness = math.sqrt(small.hidden_size / shape.hidden)

    def norm(into: Any, trained: Any) -> None:
        into.weight[: small.hidden_size] = trained.weight.float() * loudness

    core: Any = model
    wide.model.embed_tokens.weight.zero_()
    _corner(wide.model.embed_tokens.weight, core.model.embed_tokens.weight)
    _corner(wide.lm_head.weight, core.lm_head.weight)
    norm(wide.model.norm, core.model.norm)
    for layer in wide.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    group = shape.heads // shape.kv_heads
    queries = _rows(places, small.head_dim)
    keys = _rows([place // group for place in places], small.head_dim)
    shared = small.num_attention_heads // small.num_key_value_heads
    theirs = _rows([head // shared for head in range(len(places))], small.head_dim)
    step = shape.layers // small.num_hidden_layers
    for into, layer in zip(wide.model.layers[::step], core.model.layers, strict=False):
        norm(into.input_layernorm, layer.input_layernorm)
        norm(into.post_attention_layernorm, layer.post_attention_layernorm)
        new, old, width = into.self_attn, layer.self_attn, small.hidden_size
        new.q_proj.weight[queries, :width] = old.q_proj.weight.float()
        new.k_proj.weight[keys, :width] = old.k_proj.weight[theirs].float()
        new.v_proj.weight[keys, :width] = old.v_proj.weight[theirs].float()
        new.o_proj.weight[:width, queries] = old.o_proj.weight.float()
        for name in ("gate_proj", "up_proj", "down_proj"):
            _corner(getattr(into.mlp, name).weight, getattr(layer.mlp, name).weight)
    return cast(LlamaForCausalLM, wide)


def _query_places(small: Any, shape: Shape) -> list[int]:
    """Return where each query head goes: those of one key head into groups of their own."""
    ours, theirs = shape.heads // shape.kv_heads, small.num_attention_heads
    theirs //= small.num_key_value_heads
    groups = -(-theirs // ours)
    return [
        (head // theirs * groups + head % theirs // ours) * ours + head % theirs % ours
        for head in range(small.num_attention_heads)
    ]


def _rows(heads: list[int], size: int) -> Tensor:
    """Return the rows of heads, in their order."""
    return torch.cat([torch.arange(head * size, (head + 1) * size) for head in heads])


def _corner(into: Tensor, trained: Tensor) -> None:
    rows, columns = trained.shape
    into[:rows, :columns] = trained.float()
