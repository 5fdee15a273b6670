"""Names of methods → ``module:Class``. Imports nothing until a name is asked for.

Other packages add methods by entry points in the groups ``outpace.drafters``,
``outpace.verifiers``, ``outpace.lengths`` and ``outpace.cache_policies``; a built-in name cannot
be taken over. A package that is broken disturbs nobody who does not ask for its name.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import EntryPointError, UnknownName

DRAFTERS: Mapping[str, str] = {
    "none": "outpace.drafters.none:NoDrafter",
    "model": "outpace.drafters.model:ModelDrafter",
    "tree": "outpace.drafters.tree:TreeDrafter",
    "quantized-self": "outpace.drafters.quantized_self:QuantizedSelfDrafter",
    "ngram": "outpace.drafters.ngram:NgramDrafter",
    "early-exit": "outpace.drafters.early_exit:EarlyExitDrafter",
    "compressed-self": "outpace.drafters.compressed_self:CompressedSelfDrafter",
    "hierarchical": "outpace.drafters.hierarchical:HierarchicalDrafter",
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
    "gate": "outpace.lengths.gate:GateLength",
    "fixed": "outpace.lengths.fixed:FixedLength",
    "adaptive": "outpace.lengths.adaptive:AdaptiveLength",
    "confidence": "outpace.lengths.confidence:ConfidenceLength",
}
POLICIES: Mapping[str, str] = {
    "full": "outpace.cache.policies.full:FullPolicy",
    "streaming": "outpace.cache.policies.streaming:StreamingPolicy",
    "recent": "outpace.cache.policies.streaming:RecentPolicy",
    "key_norm": "outpace.cache.policies.key_norm:KeyNormPolicy",
    "fixed_key_norm": "outpace.cache.policies.key_norm:FixedKeyNormPolicy",
    "head_aware": "outpace.cache.policies.head_aware:HeadAwarePolicy",
    "quantized": "outpace.cache.policies.quantized:QuantizedPolicy",
    "snapkv": "outpace.cache.policies.snapkv:SnapKVPolicy",
    "h2o": "outpace.cache.policies.h2o:H2OPolicy",
}
_KINDS: Mapping[str, Mapping[str, str]] = {
    "drafter": DRAFTERS,
    "verifier": VERIFIERS,
    "lengths": LENGTHS,
    "policy": POLICIES,
}
_BASES: Mapping[str, str] = {
    "drafter": "outpace.drafters:Drafter",
    "verifier": "outpace.verifiers:Verifier",
    "lengths": "outpace.lengths:LengthController",
    "policy": "outpace.cache.policies:CachePolicy",
}
_GROUPS: Mapping[str, str] = {
    "drafter": "outpace.drafters",
    "verifier": "outpace.verifiers",
    "lengths": "outpace.lengths",
    "policy": "outpace.cache_policies",
}
WORDS: Mapping[str, str] = {
    "drafter": "drafter",
    "verifier": "verifier",
    "lengths": "draft length",
    "policy": "cache policy",
}
"""What each kind is called in messages."""


def names(kind: str) -> list[str]:
    """Return the sorted names of one kind: ``drafter``, ``verifier``, ``lengths`` or ``policy``."""
    return sorted({*_KINDS[kind], *third_party(kind)})


def third_party(kind: str) -> dict[str, list[EntryPoint]]:
    """Return the entry points of other packages by name; more than one is a conflict."""
    found: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=_GROUPS[kind]), key=lambda one: one.value):
        same = found.setdefault(point.name, [])
        if point.value not in {one.value for one in same}:
            same.append(point)
    return {name: points for name, points in found.items() if name not in _KINDS[kind]}


def package(point: EntryPoint) -> str:
    """Return the name and version of the package that an entry point comes from."""
    try:
        name, number = point.dist.name, point.dist.version  # type: ignore[union-attr]
    except Exception:  # its metadata is incomplete, each Python says so in another way
        name = number = ""
    return f"{name} {number}" if name else "a package without metadata"


def find(kind: str, name: str) -> Any | None:
    """Return the class registered under ``name``, or None.

    Raises:
        EntryPointError: another package's, which cannot be loaded or is no class of this kind, or
            two packages' at once.
    """
    place = _KINDS[kind].get(name)
    if place is not None:
        return _at(place)
    points = third_party(kind).get(name, [])
    if len(points) > 1:
        which = " and ".join(f"{package(one)} ({one.value})" for one in points)
        raise EntryPointError(f"{WORDS[kind]} {name!r} is in {which}: remove one of them")
    return _load(kind, points[0]) if points else None


def _at(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def _load(kind: str, point: EntryPoint) -> Any:
    base = _at(_BASES[kind])
    try:
        found = point.load()
    except Exception as error:  # whatever its modules raise while they are imported
        raise broken(kind, point.name, f"cannot be loaded ({said(error)})") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise broken(kind, point.name, f"is no {base.__name__} class")
    return found


def broken(kind: str, name: str, why: str) -> EntryPointError:
    """Return the error that another package's method is not as it should be."""
    point = third_party(kind)[name][0]
    return EntryPointError(
        f"{WORDS[kind]} {name!r}, the entry point {point.value} of {package(point)}, {why}: "
        "reinstall that package, or remove it"
    )


def said(error: BaseException) -> str:
    """Return an error in one line."""
    line = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {line}"


def get(kind: str, name: str) -> Any:
    """Return the class registered under ``name``.

    Raises:
        UnknownName: nothing has that name; the message lists the names and the nearest one.
        EntryPointError: see :func:`find`.
    """
    found = find(kind, name)
    if found is None:
        raise UnknownName(unknown(kind, name))
    return found


def unknown(kind: str, name: str) -> str:
    """Return the message for a name that is not registered."""
    return unknown_among(WORDS[kind], name, names(kind))


def unknown_among(what: str, name: str, known: Sequence[str]) -> str:
    """Return the message for a name that is none of ``known``."""
    near = get_close_matches(name.lower(), known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown {what} {name!r}{hint}: choose one of {', '.join(known)}"
