"""The models of a measurement in other precisions, each copy made once."""

from __future__ import annotations

from dataclasses import replace

from ..errors import InvalidArgument
from ..models import LanguageModel, load
from ..models.load import resolve_dtype
from ..models.precision import PRECISIONS, quantized
from .methods import Models
from .names import in_precision


def canonical(dtype: str) -> str:
    """Return the one name of a dtype or precision.

    Raises:
        UnknownName: there is none.
    """
    return dtype if dtype in PRECISIONS else str(resolve_dtype(dtype)).removeprefix("torch.")


def models_of(name: str, models: Models) -> Models:
    """Return the models that a method runs, in the precisions its name says.

    Raises:
        OutpaceError: one cannot be had in that precision.
    """
    _, target, drafter = in_precision(name)
    own = models.drafter
    return replace(
        models,
        target=_in(models.target, target, models),
        drafter=None if own is None else _in(own, drafter, models),
    )


def _in(model: LanguageModel, dtype: str | None, models: Models) -> LanguageModel:
    """Return a model in a precision; None is the one it has."""
    if dtype is None or model.precision == (dtype := canonical(dtype)):
        return model
    # models that were wrapped may have one name
    which = model.name if model.source else f"{model.name} ({model.fingerprint})"
    key = f"{which} in {dtype}"
    if key not in models.others:
        models.others[key] = _copy(model, dtype)
    return models.others[key]


def _copy(model: LanguageModel, dtype: str) -> LanguageModel:
    # made from bfloat16 it is the one that would be loaded, and shares what is not quantised
    shared = dtype in PRECISIONS and model.precision == "bfloat16"
    if shared:
        made = quantized(model, dtype)
        made.source = None if model.source is None else (model.source[0], dtype)
        return made
    if model.source is None:
        raise InvalidArgument(
            f"{model.name} in {dtype}: it was not loaded by name, and is in {model.precision}: "
            "load it in bfloat16, or by its folder"
        )
    return load(model.source[0], dtype=dtype, device=model.device)
