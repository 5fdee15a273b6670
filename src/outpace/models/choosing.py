"""Which runtime a model gets on its device, and what is said where it cannot be had."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import RuntimeUnavailable, UnknownName
from . import artefacts
from .probe import agreement
from .runtime import RUNTIMES, EagerRuntime, Runtime

if TYPE_CHECKING:
    from .language_model import LanguageModel
    from .preparing import Prepared

VARIABLE = "OUTPACE_RUNTIME"
Choice = tuple[Runtime, str | None, "Prepared | None"]
"""The runtime, a line if it is not the one asked for, and what is waited for."""


def check_runtime(name: str) -> str:
    """Return the runtime that a name means; ``auto`` is what OUTPACE_RUNTIME says, if it is set.

    Raises:
        UnknownName: no such runtime.
    """
    for given, what in ((name, "runtime"), (os.environ.get(VARIABLE, "auto"), VARIABLE)):
        if given not in RUNTIMES:
            raise UnknownName(f"{what} {given!r}: choose one of {', '.join(RUNTIMES)}")
    return os.environ.get(VARIABLE, "auto") if name == "auto" else name


def choose(
    model: LanguageModel,
    name: str,
    *,
    wait: bool,
    bitwise: int,
    note: Callable[[str], None],
) -> Choice:
    """Return what :meth:`LanguageModel.use_runtime` sets.

    Raises:
        UnknownName: no such runtime.
    """
    name = check_runtime(name)
    eager = _eager(model, bitwise)
    try:
        if name == "eager" or (bitwise and model.device.type == "cpu"):
            why = None
            if name in {"graph", "compile"}:
                why = "a bitwise run needs one width for all forwards"
            return eager, _eagerly(model, why), None
        if model.device.type == "cuda":
            from .graphs import GraphRuntime

            return GraphRuntime(model.step, compiled=name == "compile", bitwise=bitwise), None, None
        if name == "graph":
            raise RuntimeUnavailable(f"graphs are CUDA's, the model is on {model.device.type}")
        if model.device.type != "cpu":
            raise RuntimeUnavailable(f"there is no other runtime for {model.device.type}")
        return _packaged(model, eager, wait=wait, note=note)
    except RuntimeUnavailable as error:
        return eager, _eagerly(model, str(error)), None


def arrived(model: LanguageModel, waiting: Prepared) -> tuple[Runtime, str | None] | None:
    """Return the compiled runtime if it is ready, or why it will not be; None to wait on."""
    if not waiting.is_there:
        why = waiting.failure
        return None if why is None else (_eager(model), _eagerly(model, why))
    try:
        return _checked(model, waiting), None
    except RuntimeUnavailable as error:
        return _eager(model), _eagerly(model, str(error))


def _packaged(
    model: LanguageModel, eager: Runtime, *, wait: bool, note: Callable[[str], None]
) -> Choice:
    prepared = model.prepared()
    if not prepared.is_there and wait:
        prepared.make(note)
    if prepared.is_there:
        return _checked(model, prepared), None, None
    prepared.make_in_background()
    return (
        eager,
        f"{model.name} is being compiled in the background, once; until then it runs eagerly "
        "(outpace warm prepares it ahead)",
        prepared,
    )


def _checked(model: LanguageModel, prepared: Prepared) -> Runtime:
    """Load a compiled model and compare it with the model itself.

    Raises:
        RuntimeUnavailable: it cannot be loaded, or its logits are others; then it is removed.
    """
    runtime = prepared.load()
    deviation, allowed = agreement(model, runtime)
    if not deviation <= allowed:
        artefacts.remove(prepared.key)
        raise RuntimeUnavailable(
            f"its compiled forward differs from the model's by {deviation:.2g} standard "
            f"deviations (allowed {allowed:g})"
        )
    return runtime


def _eager(model: LanguageModel, bitwise: int = 0) -> EagerRuntime:
    return EagerRuntime(model.step, bitwise, packed=True)


def _eagerly(model: LanguageModel, why: str | None) -> str | None:
    return None if why is None else f"{model.name} runs eagerly: {why}"
