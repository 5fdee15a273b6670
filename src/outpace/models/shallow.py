"""The first layers of a model, seen as a model of its own that shares every parameter."""

from __future__ import annotations

import copy
from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel

from ..errors import InvalidArgument, UnsupportedModel
from .language_model import LanguageModel


def shallow(model: LanguageModel, layers: int) -> LanguageModel:
    """Return a model of the first ``layers`` layers, with the last norm and the output layer.

    Modules are shared, not copied: it takes no memory but for keys and values, and nothing of the
    given model is changed.

    Raises:
        InvalidArgument: not at least one layer and fewer than the model has.
        UnsupportedModel: its layers do not lie in one list.
    """
    total = int(model.config.num_hidden_layers)
    if total < 2:
        raise InvalidArgument(
            f"early exit from {model.name}: it has one layer, give a deeper model"
        )
    if isinstance(layers, bool) or not isinstance(layers, int) or not 1 <= layers < total:
        raise InvalidArgument(
            f"early exit after {layers!r} layers: {model.name} has {total}, give 1 to {total - 1}"
        )
    stock: Any = model.model
    body = stock.base_model
    lists = [
        name
        for name, child in body.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == total
    ]
    prefix = next((name for name, child in stock.named_children() if child is body), None)
    if len(lists) != 1 or prefix is None:
        raise UnsupportedModel(
            f"{model.name} ({model.config.model_type}) does not keep its layers in one list: "
            "draft with another model or method"
        )
    first = nn.ModuleList(list(getattr(body, lists[0]))[:layers])
    cut = _sharing(stock, {prefix: _sharing(body, {lists[0]: first})})
    found = LanguageModel(
        cast(PreTrainedModel, cut), model.tokenizer, name=f"{model.name}, {layers} layers"
    )
    found.layers = layers  # the configuration is the whole model's
    return found


def _sharing(module: nn.Module, children: dict[str, nn.Module]) -> nn.Module:
    """Return a module like another, with some of its children replaced."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, **children}
    return twin
