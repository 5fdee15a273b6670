"""A stock causal language model, seen as one forward over tokens at given positions and slots."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import UnsupportedModel
from . import attention
from .kv import SlotCache
from .mask import MaskBuilder
from .runtime import EagerRuntime, Inputs, Runtime
from .step import Step

# Rotary scalings whose angles depend on the longest position seen, not on the token's own.
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")


class LanguageModel:
    """One causal language model behind the interface the loop uses.

    Args:
        model: any transformers causal language model in evaluation mode.
        tokenizer: its tokenizer, or None where only token ids are used.
        name: how to call it in messages.

    Attributes:
        vocabulary: rows of the output layer.
        context_length: how many tokens a sequence may have, or None if the model sets no limit.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any | None = None, name: str = ""
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name or type(model).__name__
        config = model.config
        if getattr(config, "is_encoder_decoder", False):
            raise UnsupportedModel(
                f"{self.name} is an encoder-decoder ({config.model_type}): "
                "give a causal language model"
            )
        self.config: Any = config.get_text_config()
        self._own_attention: str = config._attn_implementation
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.vocabulary = _output_rows(model, self.config, self.name)
        self.context_length = _context_length(self.config)
        self.step = Step(model, MaskBuilder(self.config, self.dtype, self.name))
        self._runtime: Runtime = EagerRuntime(self.step)

    @property
    def eos_ids(self) -> frozenset[int]:
        """The ids that end a text, from the generation config."""
        eos = getattr(self.model.generation_config, "eos_token_id", None)
        if eos is None:
            eos = getattr(self.config, "eos_token_id", None)
        if eos is None:
            return frozenset()
        return frozenset(eos) if isinstance(eos, list | tuple) else frozenset({int(eos)})

    @property
    def parameters(self) -> int:
        """How many parameters the model has, shared ones once."""
        packed: int = sum(layer.packed_numel for layer in self._packed)
        return packed + sum(p.numel() for p in self.model.parameters())

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights, shared ones once."""
        return self.packed_bytes + sum(p.nbytes for p in self.model.parameters())

    @property
    def packed_bytes(self) -> int:
        """Bytes of the weights below bfloat16; a quantised copy has only these to itself."""
        return sum(layer.packed_bytes for layer in self._packed)

    @property
    def precision(self) -> str:
        """The precision of the matrices: ``int8``, ``int4``, or the name of the dtype."""
        packed = self._packed
        return packed[0].precision if packed else str(self.dtype).removeprefix("torch.")

    @property
    def _packed(self) -> list[Any]:
        """The layers whose weights are no parameters, see :mod:`outpace.models.precision`."""
        return [layer for layer in self.model.modules() if hasattr(layer, "packed_bytes")]

    @property
    def fingerprint(self) -> str:
        """A digest of the configuration, the precision and the first weights of each matrix."""
        firsts = [p.detach().flatten()[:64].float() for p in self.model.parameters()]
        some = torch.cat([*firsts, *(layer.first for layer in self._packed)])
        digest = hashlib.sha256(self.config.to_json_string().encode())
        digest.update(str(self.dtype).encode())
        digest.update(self.precision.encode() if self._packed else b"")
        digest.update(some.cpu().numpy().tobytes())
        return digest.hexdigest()

    def new_cache(self, capacity: int) -> SlotCache:
        """Return an empty cache of ``capacity`` slots."""
        return SlotCache(self.config.num_hidden_layers, capacity)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Run a borrowed model with the loop's attention; give it back its own afterwards.

        Outside of this every forward does so by itself, which takes a little time each.
        """
        before = self.model.config._attn_implementation
        attention.use_slot_attention(self.model)
        try:
            yield
        finally:
            self.model.set_attn_implementation(before)

    @contextmanager
    def stock(self) -> Iterator[PreTrainedModel]:
        """Run the model as transformers itself would, with its own attention."""
        now, stock = self.model.config._attn_implementation, self._own_attention
        # Eager is right for every family: for a copy of a model that came out of the loop, and
        # where transformers' fused attention of some versions drops a soft-cap in silence.
        if stock == attention.NAME or getattr(self.config, "attn_logit_softcapping", None):
            stock = "eager"
        if now != stock:
            self.model.set_attn_implementation(stock)
        try:
            yield self.model
        finally:
            if now != stock:
                self.model.set_attn_implementation(now)

    @torch.no_grad()
    def stock_logits(self, ids: Tensor) -> Tensor:
        """Return the logits ``[1, T, V]`` of a plain forward over ``ids [1, T]``.

        No cache, the model's own attention: what the loop is measured against.
        """
        with self.stock() as model:
            logits: Tensor = model(input_ids=ids, use_cache=False).logits
        return logits

    def forward(
        self,
        tokens: Tensor,
        where: Tensor,
        ancestors: Tensor,
        held: Tensor,
        cache: SlotCache,
        view: int,
        *,
        last_only: bool = False,
    ) -> Tensor:
        """Run the model once over N tokens and write their keys and values at their slots.

        Args:
            tokens: ``[N]`` int64.
            where: ``[2, M]`` int64, positions (what the position encoding gets) and slots (where
                they lie; distinct, below ``view - 1``): of M - N nodes of the same round that
                earlier forwards have computed, then of these N.
            ancestors: bool ``[N, M]``, which of the M nodes each row sees, itself included.
            held: int64 ``[capacity]``, the position of the committed token in each slot or -1.
            cache: where keys and values are.
            view: how many slots to read; rows that only fill a static width write to the last.
            last_only: compute the logits of the last token alone.

        Returns:
            Logits ``[N, V]``, or ``[1, V]``.
        """
        if self.model.config._attn_implementation != attention.NAME:
            with self.attached():
                return self.forward(
                    tokens, where, ancestors, held, cache, view, last_only=last_only
                )
        given = Inputs(tokens, where, ancestors, held, cache, view, last_only)
        return self._runtime.run(given)


def _output_rows(model: PreTrainedModel, config: Any, name: str) -> int:
    head = model.get_output_embeddings()
    if head is None:
        raise UnsupportedModel(
            f"{name} has no output layer over a vocabulary: give a causal language model"
        )
    weight = getattr(head, "weight", None)
    return int(config.vocab_size if weight is None else weight.shape[0])


def _context_length(config: Any) -> int | None:
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    rope = getattr(config, "rope_parameters", None) or {}
    if isinstance(rope, dict) and rope.get("rope_type") in _LENGTH_DEPENDENT_ROPE:
        # Past this length the angles of *all* tokens change with the longest position in the
        # forward, so draft tokens would change the logits of the tokens before them.
        original = rope.get("original_max_position_embeddings") or getattr(
            config, "original_max_position_embeddings", None
        )
        limit = original or limit
    return int(limit) if limit else None
