"""Checkpoints that were stored quantised, by the configurations of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MIXING = "bitsandbytes int8"
"""LLM.int8(): which features are multiplied in 16 bits depends on all rows of a forward."""


def stored_precision(config: Any) -> str | None:
    """Return how the weights of a checkpoint were quantised, as in ``bitsandbytes nf4``.

    Args:
        config: of the model.

    Returns:
        Method and bits; None for a checkpoint that is not quantised.
    """
    given = getattr(config, "quantization_config", None)
    if given is None:
        return None
    values: Mapping[str, Any] = given if isinstance(given, Mapping) else given.to_dict()
    method = str(getattr(values.get("quant_method"), "value", values.get("quant_method")))
    if values.get("load_in_8bit"):
        kind = "int8"
    elif values.get("load_in_4bit"):
        kind = str(values.get("bnb_4bit_quant_type", "4 bits"))
    else:
        bits = values.get("bits")
        kind = "" if bits is None else f"{bits} bits"
    return f"{method} {kind}".strip()
