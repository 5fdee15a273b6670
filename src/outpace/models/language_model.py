"""A stock causal language model, seen as one forward over tokens at given positions and slots."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import UnsupportedModel
from ..sampling import Pick
from ..types import causal
from . import attention
from .footprint import footprint, held_by
from .kv import Shape, SlotCache
from .mask import MaskBuilder
from .observing import observer
from .runtime import EagerRuntime, Inputs, Runtime, everything
from .step import Step
from .stored import MIXING, stored_precision

if TYPE_CHECKING:
    from .preparing import Prepared

LOOK_EVERY = 16
"""Forwards between two looks for a compiled model that another process makes."""

# Rotary scalings whose angles depend on the longest position seen, not on the token's own.
LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")


class LanguageModel:
    """One causal language model behind the interface the loop uses.

    Args:
        model: any transformers causal language model in evaluation mode.
        tokenizer: its tokenizer, or None where only token ids are used.
        name: how to call it in messages.

    Attributes:
        source: name and precision it was loaded by, so that another process can load it too;
            None for a model that was wrapped.
        bitwise: the one width of all its forwards of a round; 0 if there is none.
        runtime_note: one line on why its forwards do not run as asked for; None if they do.
        vocabulary: rows of the output layer.
        layers: how many layers are run.
        context_length: how many tokens a sequence may have, or None if the model sets no limit.
        ends: ids that end a text besides those of the generation config.
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
        self.context_length = context_length(self.config)
        self.layers = int(self.config.num_hidden_layers)
        self.step = Step(model, MaskBuilder(self.config, self.dtype, self.name))
        self._runtime: Runtime = EagerRuntime(self.step)
        self.source: tuple[str, str] | None = None
        self.runtime_note: str | None = None
        self.bitwise = 0
        self.ends: frozenset[int] = frozenset()
        self._shapes: list[Shape] = []
        self._awaited: Prepared | None = None
        self._looks = 0

    @property
    def eos_ids(self) -> frozenset[int]:
        """The ids that end a text: those of the generation config, and ``ends``."""
        eos = getattr(self.model.generation_config, "eos_token_id", None)
        if eos is None:
            eos = getattr(self.config, "eos_token_id", None)
        if eos is None:
            return self.ends
        return self.ends | (set(eos) if isinstance(eos, list | tuple) else {int(eos)})

    @property
    def parameters(self) -> int:
        """How many parameters the model has, shared ones once."""
        packed: int = sum(layer.packed_numel for layer in self._packed)
        return packed + sum(_numel(p) for p in self.model.parameters())

    @property
    def weight_bytes(self) -> int:
        """Bytes of the storages behind the weights, shared ones once."""
        return footprint(self.model)

    @property
    def packed_bytes(self) -> int:
        """Bytes of the weights below bfloat16; a quantised copy has only these to itself."""
        return sum(layer.packed_bytes for layer in self._packed)

    @property
    def precision(self) -> str:
        """The precision of the matrices: ``int8``, ``int4`` …, or the name of the dtype.

        Of a checkpoint that was stored quantised, what its configuration says.
        """
        packed = self._packed
        if packed:
            return str(packed[0].precision)
        return stored_precision(self.model.config) or str(self.dtype).removeprefix("torch.")

    @property
    def is_quantized(self) -> bool:
        """Whether its matrices have fewer bits than its dtype."""
        return bool(self._packed) or stored_precision(self.model.config) is not None

    @property
    def rows_alone(self) -> bool:
        """Whether a row of a forward is the same, up to rounding, whatever rows are beside it.

        Not so in LLM.int8(): which features are computed in 16 bits depends on all rows.
        """
        mixing = stored_precision(self.model.config) == MIXING
        return not mixing and all(getattr(one, "rows_alone", True) for one in self._packed)

    @property
    def _packed(self) -> list[Any]:
        """The layers whose weights are no parameters, see :mod:`outpace.models.precision`."""
        return [layer for layer in self.model.modules() if hasattr(layer, "packed_bytes")]

    @property
    def fingerprint(self) -> str:
        """A digest of the configuration, the precision and the first weights of each matrix."""
        parts = (part for p in self.model.parameters() for part in held_by(p))
        firsts = [part.flatten()[:64].float() for part in parts]
        some = torch.cat([*firsts, *(layer.first for layer in self._packed)])
        digest = hashlib.sha256(self.config.to_json_string().encode())
        digest.update(str(self.dtype).encode())
        digest.update(self.precision.encode() if self._packed else b"")
        digest.update(some.cpu().numpy().tobytes())
        return digest.hexdigest()

    @property
    def runtime_name(self) -> str:
        """How forwards are run now: ``eager``, ``graph`` or ``compile``."""
        return self._runtime.name

    @property
    def is_being_compiled(self) -> bool:
        """Whether another process compiles it, so that its forwards will be faster later."""
        return self._awaited is not None

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths of a round's forwards that differ in cost: steps of a staircase."""
        return self._runtime.widths

    @property
    def chunks(self) -> tuple[int, ...]:
        """The widths of prefill forwards, the widest first."""
        return self._runtime.chunks

    def prepared(self) -> Prepared:
        """Return its compiled forwards, there or not."""
        from .preparing import Prepared
        from .probe import layer_shapes

        if not self._shapes:
            self._shapes = layer_shapes(self)
        return Prepared(self, self._shapes)

    def use_runtime(
        self,
        name: str = "auto",
        *,
        wait: bool = False,
        bitwise: int = 0,
        note: Callable[[str], None] = lambda what: None,
    ) -> None:
        """Choose how forwards are run.

        Where that cannot be had they run eagerly, and :attr:`runtime_note` says why.

        Args:
            name: ``eager``; ``graph``: captured CUDA graphs; ``compile``: compiled by Inductor,
                on a GPU captured as well; ``auto``: ``graph`` on a GPU, ``compile`` on a CPU,
                unless OUTPACE_RUNTIME names another one.
            wait: on a CPU, compile here and now what is not yet compiled. Otherwise another
                process does, and the model switches when it is ready.
            bitwise: one width for all forwards of a round, so that the last bits of a row do not
                depend on how many rows there are; 0 for the least width that fits.
            note: told what is done, while it is waited for.

        Raises:
            UnknownName: no such runtime.
        """
        from .choosing import choose

        self._awaited, self.bitwise = None, bitwise
        self._runtime, self.runtime_note, self._awaited = choose(
            self, name, wait=wait, bitwise=bitwise, note=note
        )

    def new_cache(self, capacity: int) -> SlotCache:
        """Return an empty cache of ``capacity`` slots."""
        return SlotCache(self.layers, capacity)

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
        runtime = self._runtime
        if observer() is not None:
            runtime = EagerRuntime(self.step, padded=False)
        elif cache.is_uneven:  # what is compiled or captured reads one view of all layers
            runtime = EagerRuntime(self.step)
        if not runtime.traced and self.model.config._attn_implementation != attention.NAME:
            with self.attached():
                return self.forward(
                    tokens, where, ancestors, held, cache, view, last_only=last_only
                )
        if self._awaited is not None and runtime is self._runtime:
            self._look()
            runtime = self._runtime
        return runtime.run(Inputs(tokens, where, ancestors, held, cache, view, last_only))

    def chain(
        self,
        tokens: Tensor,
        where: Tensor,
        held: Tensor,
        cache: SlotCache,
        view: int,
        length: int,
        pick: Pick,
    ) -> Tensor:
        """Run the model over tokens in a row, and on over tokens of its own choice.

        Args:
            tokens: ``[N]`` int64, the first ones.
            where: ``[2, N + length - 1]`` int64, positions and slots of all.
            held: as in :meth:`forward`, likewise ``cache`` and ``view``.
            cache: where keys and values are.
            view: how many slots to read.
            length: how many tokens to choose; the last one is not run.
            pick: how to choose.

        Returns:
            The tokens chosen, ``[length]`` int64, where the model is.
        """
        if not self._runtime.traced and self.model.config._attn_implementation != attention.NAME:
            with self.attached():
                return self.chain(tokens, where, held, cache, view, length, pick)
        count, device = tokens.shape[0], self.device
        place, seen = where[:, :count], causal(count, device)
        first = Inputs(tokens, place, seen, held, cache, view, last_only=True)
        captured = None
        if observer() is None and not cache.is_uneven:
            captured = self._runtime.chain(first, where, length, pick)
        if captured is not None:
            return captured
        logits = self.forward(tokens, place, seen, held, cache, view, last_only=True)
        chosen = [pick(logits, 0)]
        for number in range(1, length):
            nodes = count + number
            place, seen = where[:, :nodes], everything(nodes, device)
            logits = self.forward(chosen[-1], place, seen, held, cache, view)
            chosen.append(pick(logits, number))
        return torch.cat(chosen)

    def _look(self) -> None:
        """Now and then, see whether the other process is done, and switch."""
        from .choosing import arrived

        self._looks += 1
        if self._looks % LOOK_EVERY == 0 and self._awaited is not None:
            waiting, self._awaited = self._awaited, None  # forwards of the check do not look
            found = arrived(self, waiting)
            if found is None:
                self._awaited = waiting
            else:
                self._runtime, self.runtime_note = found


def _output_rows(model: PreTrainedModel, config: Any, name: str) -> int:
    head = model.get_output_embeddings()
    if head is None:
        raise UnsupportedModel(
            f"{name} has no output layer over a vocabulary: give a causal language model"
        )
    weight = getattr(head, "weight", None)
    return int(config.vocab_size if weight is None else weight.shape[0])


def context_length(config: Any) -> int | None:
    """Return how many tokens a sequence may have by a configuration; None is any number."""
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    rope = getattr(config, "rope_parameters", None) or {}
    if isinstance(rope, dict) and rope.get("rope_type") in LENGTH_DEPENDENT_ROPE:
        # Past this length the angles of *all* tokens change with the longest position in the
        # forward, so draft tokens would change the logits of the tokens before them.
        original = rope.get("original_max_position_embeddings") or getattr(
            config, "original_max_position_embeddings", None
        )
        limit = original or limit
    return int(limit) if limit else None


def _numel(weight: Tensor) -> int:
    """Return how many numbers a weight stands for, packed two in a byte or not."""
    state = getattr(weight, "quant_state", None)
    return weight.numel() if state is None else int(state.shape.numel())
