"""One forward of a stock model as a function of tensors alone: what is run, captured, compiled."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .kv import SlotCache
from .mask import MaskBuilder


def cache_keyword(model: nn.Module) -> str:
    """Return the name by which a model's forward takes its cache, and gives it back.

    ``cache`` from transformers 5.24 on, ``past_key_values`` before.
    """
    named = inspect.signature(model.forward).parameters
    return "cache" if "cache" in named else "past_key_values"


class Step(nn.Module):
    """A stock model and its masks.

    Args:
        model: the stock model, attending by slot.
        masks: its mask builder.
    """

    def __init__(self, model: PreTrainedModel, masks: MaskBuilder) -> None:
        super().__init__()
        self.model = model
        self.masks = masks
        self._cache = cache_keyword(model)

    def forward(
        self,
        tokens: Tensor,
        where: Tensor,
        ancestors: Tensor,
        keep: Tensor,
        held: Tensor,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        rows: Tensor | None = None,
    ) -> Tensor:
        """Run the model once over W tokens, and write their keys and values.

        Args:
            tokens: ``[W]`` int64.
            where: ``[2, M]`` int64, positions and slots of M >= W nodes of the round.
            ancestors: bool ``[W, M]``, which of the nodes each row sees.
            keep: ``[R]`` int64, the rows whose logits are wanted.
            held: ``[S]`` int64, the position of the committed token in each slot or -1.
            keys: of each layer, ``[S, H_kv, D]``.
            values: likewise.
            rows: ``[W]`` int64, which of the nodes these tokens are; None is the last W. What
                nobody sees of the others need not be there yet.

        Returns:
            Logits ``[R, V]``, float32: what they become anyway before a token is chosen.
        """
        own = where[:, -tokens.shape[0] :] if rows is None else where[:, rows]
        cache = SlotCache.over(keys, values, own[1])
        return self.run(tokens, where, ancestors, keep, held, cache, own[0]).to(torch.float32)

    def run(
        self,
        tokens: Tensor,
        where: Tensor,
        ancestors: Tensor,
        keep: Tensor | int,
        held: Tensor,
        cache: SlotCache,
        positions: Tensor,
    ) -> Tensor:
        """The same over a cache that is aimed already, at ``positions [W]``.

        ``keep`` 0 keeps all rows.
        """
        out = self.model(
            input_ids=tokens[None],
            position_ids=positions[None],
            attention_mask=self.masks.build(held, where, ancestors, positions),
            use_cache=True,
            logits_to_keep=keep,
            **{self._cache: cache},
        )
        logits: Tensor = out.logits[0]
        return logits
