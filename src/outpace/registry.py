"""Names of methods → ``module:Class``. Imports nothing until a name is asked for.

Other packages add methods by entry points in the groups ``outpace.drafters``,
``outpace.verifiers`` and ``outpace.lengths``; a built-in name cannot be taken over.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from .errors import UnknownName

DRAFTERS: Mapping[str, str] = {
    "none": "outpace.drafters.none:NoDrafter",
    "model": "outpace.drafters.model:ModelDrafter",
    "tree": "outpace.drafters.tree:TreeDrafter",
    "quantized-self": "outpace.drafters.quantized_self:QuantizedSelfDrafter",
    "ngram": "outpace.drafters.ngram:NgramDrafter",
    "early-exit": "outpace.drafters.early_exit:EarlyExitDrafter",
    "cascade": "outpace.drafters.cascade:CascadeDrafter",
    "bandit": "outpace.drafters.bandit:BanditDrafter",
    "retokenized": "outpace.drafters.retokenized:RetokenizedDrafter",
    "prompt-lookup": "outpace.drafters.prompt_lookup:PromptLookupDrafter",
    "lookahead": "outpace.drafters.lookahead:LookaheadDrafter",
    "recycling": "outpace.drafters.recycling:RecyclingDrafter",
    "suffix": "outpace.drafters.suffix:SuffixDrafter",
}
VERIFIERS: Mapping[str, str] = {
    "coupled": "outpace.verifiers.coupled:CoupledVerifier",
    "rejection": "outpace.verifiers.rejection:RejectionVerifier",
    "sequoia": "outpace.verifiers.rejection:SequoiaVerifier",
    "block": "outpace.verifiers.block:BlockVerifier",
}
LENGTHS: Mapping[str, str] = {
    "fixed": "outpace.lengths.fixed:FixedLength",
    "adaptive": "outpace.lengths.adaptive:AdaptiveLength",
}
_KINDS: Mapping[str, Mapping[str, str]] = {
    "drafter": DRAFTERS,
    "verifier": VERIFIERS,
    "lengths": LENGTHS,
}
_GROUPS: Mapping[str, str] = {
    "drafter": "outpace.drafters",
    "verifier": "outpace.verifiers",
    "lengths": "outpace.lengths",
}


def names(kind: str) -> list[str]:
    """Return the sorted names of one kind: ``drafter``, ``verifier`` or ``lengths``."""
    third_party = {point.name for point in entry_points(group=_GROUPS[kind])}
    return sorted({*_KINDS[kind], *third_party})


def find(kind: str, name: str) -> Any | None:
    """Return the class registered under ``name``, or None."""
    place = _KINDS[kind].get(name)
    if place is not None:
        module, _, attribute = place.partition(":")
        return getattr(import_module(module), attribute)
    for point in entry_points(group=_GROUPS[kind]):
        if point.name == name:
            return point.load()
    return None


def get(kind: str, name: str) -> Any:
    """Return the class registered under ``name``.

    Raises:
        UnknownName: nothing has that name; the message lists the names and the nearest one.
    """
    found = find(kind, name)
    if found is None:
        raise UnknownName(unknown(kind, name))
    return found


def unknown(kind: str, name: str) -> str:
    """Return the message for a name that is not registered."""
    what = "draft length" if kind == "lengths" else kind
    return unknown_among(what, name, names(kind))


def unknown_among(what: str, name: str, known: Sequence[str]) -> str:
    """Return the message for a name that is none of ``known``."""
    near = get_close_matches(name.lower(), known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown {what} {name!r}{hint}: choose one of {', '.join(known)}"
