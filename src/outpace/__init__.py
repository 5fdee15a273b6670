"""Outpace: decode any Hugging Face causal language model faster, with the same output."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import zoo
from .version import __version__

if TYPE_CHECKING:
    from .beam import BeamOutput as BeamOutput
    from .beam import BeamSearch as BeamSearch
    from .custom_generate import CustomGenerate as CustomGenerate
    from .decoder import Decoder as Decoder
    from .decoder import Stream as Stream
    from .drafters import Drafter as Drafter
    from .errors import OutpaceError as OutpaceError
    from .lengths import LengthController as LengthController
    from .output import Output as Output
    from .output import Stats as Stats
    from .types import Budget as Budget
    from .types import Context as Context
    from .types import Round as Round
    from .types import TokenTree as TokenTree
    from .types import Verdict as Verdict
    from .verifiers import Verifier as Verifier

# Loaded on first use: `outpace --help` and `import outpace` must not wait for torch.
_HOMES = {
    "BeamOutput": "beam",
    "BeamSearch": "beam",
    "Budget": "types",
    "Context": "types",
    "CustomGenerate": "custom_generate",
    "Decoder": "decoder",
    "Drafter": "drafters",
    "LengthController": "lengths",
    "Output": "output",
    "OutpaceError": "errors",
    "Round": "types",
    "Stats": "output",
    "Stream": "decoder",
    "TokenTree": "types",
    "Verdict": "types",
    "Verifier": "verifiers",
}

__all__ = [
    "BeamOutput",
    "BeamSearch",
    "Budget",
    "Context",
    "CustomGenerate",
    "Decoder",
    "Drafter",
    "LengthController",
    "OutpaceError",
    "Output",
    "Round",
    "Stats",
    "Stream",
    "TokenTree",
    "Verdict",
    "Verifier",
    "__version__",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
