"""Parts of a decoder from their names: drafters, tree shapes, verifiers, length controllers."""

from __future__ import annotations

import os
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import torch

from . import registry, zoo
from .calls import Call, is_call, parse_call, split
from .drafters import Drafter
from .drafters.model import ModelDrafter
from .drafters.shape import Shape
from .drafters.shape_names import parse_shape
from .drafters.tree import TreeDrafter
from .errors import InvalidArgument, ModelNotFound, OutpaceError, UnknownName
from .lengths import LengthController
from .lengths.fixed import FixedLength
from .models import LanguageModel, load
from .verifiers import Verifier

TAKE_A_MODEL = ("retokenized", "cascade", "bandit", "hierarchical")
"""Drafters whose name can go on with a model, as in ``bandit:MODEL``; the first one's has to."""
_NEED_A_MODEL = {
    "model": "needs to know which: give the drafter's folder or hub name",
    "tree": "needs a model: give the drafter's folder or hub name, and the tree's shape as tree "
    "(--tree)",
    "retokenized": "needs a model: give retokenized:FOLDER or retokenized:NAME",
    "retokenized:": "needs a model: give retokenized:FOLDER or retokenized:NAME",
    "hierarchical": "needs a model: give hierarchical:FOLDER or hierarchical:NAME",
    "hierarchical:": "needs a model: give hierarchical:FOLDER or hierarchical:NAME",
}
_EXAMPLES = {
    "drafter": "early-exit(layers=2)",
    "verifier": "rejection(skip_sample_adjustment=True)",
    "lengths": "adaptive(start=3)",
}


def make_verifier(verifier: str | Verifier) -> Verifier:
    """Return a verifier from a name, with its settings if it is given some, or the one given.

    Raises:
        UnknownName: nothing has that name.
        InvalidArgument: a wrong setting.
        EntryPointError: another package's, which cannot be had.
    """
    if isinstance(verifier, Verifier):
        return verifier
    _need_name("verifier", verifier)
    call = _call("verifier", os.fspath(verifier))
    made: Verifier = _make("verifier", call, registry.get("verifier", call.name))
    return made


def _need_name(what: str, given: object) -> None:
    if not isinstance(given, str | os.PathLike):
        raise InvalidArgument(f"{what} {given!r}: give a name or an object made for it")


def make_lengths(length: int | str | LengthController) -> LengthController:
    """Return a length controller from a number, a name, or one.

    Raises:
        InvalidArgument: a number out of range, or an unknown name.
    """
    if isinstance(length, LengthController):
        return length
    if isinstance(length, int) and length is not True and length is not False:
        return FixedLength(length)
    _need_name("draft length", length)
    length = str(length)
    try:
        return FixedLength(int(length))
    except InvalidArgument:
        raise
    except ValueError:  # no number: a name
        call = _call("lengths", length)
        found = registry.find("lengths", call.name)
    if found is None:
        raise UnknownName(f"{registry.unknown('lengths', call.name)}; or give a number of tokens")
    made: LengthController = _make("lengths", call, found)
    return made


def _call(kind: str, text: str) -> Call:
    """Return a name and its settings; what is no call at all is taken for a name."""
    what = registry.WORDS[kind]
    return parse_call(text, f"{what} {text!r}", _EXAMPLES[kind]) if is_call(text) else Call(text)


def _make(kind: str, call: Call, make: type) -> Any:
    """Return what a registered class makes of the settings it is given."""
    try:
        settings = call.settings(make)
        return make(**settings)
    except OutpaceError:
        raise
    except Exception as error:  # a constructor of another package may raise anything
        if call.name in registry.third_party(kind):
            why = f"cannot be made ({registry.said(error)})"
            raise registry.broken(kind, call.name, why) from error
        what = registry.WORDS[kind]
        raise InvalidArgument(
            f"{what} {call.name!r} cannot be made ({registry.said(error)}): give other settings"
        ) from error


def make_shape(
    tree: str | Shape | None, length: int | str | LengthController | None = None
) -> Shape | None:
    """Return a tree shape from its text, or the one given; None for no tree.

    Raises:
        InvalidArgument: no such shape, or a draft length beside it.
    """
    if tree is None:
        return None
    if length is not None:
        raise InvalidArgument(
            f"draft length {length} beside a tree: the shape says how deep to draft, "
            "as in 'fixed(depth=5)'; give one of them"
        )
    if isinstance(tree, Shape):
        return tree
    if not isinstance(tree, str):
        raise InvalidArgument(f"tree {tree!r}: give a shape, as in 'fixed(depth=5)'")
    return parse_shape(tree)


def model_drafter(model: LanguageModel, shape: Shape | None = None) -> Drafter:
    """Return the drafter that drafts with a model: trees of a shape, or chains."""
    return ModelDrafter(model) if shape is None else TreeDrafter(model, shape)


def make_drafter(
    name: str | os.PathLike[str],
    shape: Shape | None = None,
    *,
    dtype: str | torch.dtype = "bfloat16",
    device: str | torch.device | None = None,
    runtime: str = "eager",
    load: Callable[..., LanguageModel] = load,
) -> Drafter:
    """Return a drafter from a registered name, a model folder or a hub name.

    ``NAME(KEY=VALUE, ...)`` gives a method its settings. ``retokenized:MODEL`` is a draft model
    with another tokenizer than the target's; ``cascade:MODEL`` and ``bandit:MODEL`` have a draft
    model among their sources.

    Args:
        name: of the drafter.
        shape: of its trees; None is a chain.
        dtype: of a draft model's weights.
        device: where it runs.
        runtime: how its forwards are run.
        load: loads a draft model, or has it already; as :func:`outpace.models.load`.

    Raises:
        UnknownName: neither a method nor a model.
        InvalidArgument: a shape for a method that drafts no trees, or a wrong setting.
        EntryPointError: another package's method, which cannot be had.
        ModelError: the model cannot be used.
    """
    made = drafter_by_name(name, shape)
    if made is not None:
        return made
    text = os.fspath(name)
    kind, model_name = with_its_model(text) or ("", text)
    try:
        model = load(model_name, dtype=dtype, device=device, runtime=runtime)
    except ModelNotFound as error:
        if os.sep in model_name or os.path.exists(model_name):
            raise
        if kind:
            raise UnknownName(
                f"drafter {text!r}: no model {model_name!r}: give a model's folder or hub name "
                f"after {kind}:"
            ) from error
        raise UnknownName(f"{registry.unknown('drafter', text)}; or give a model folder") from error
    return with_model(kind, model) if kind else model_drafter(model, shape)


def with_model(kind: str, model: LanguageModel) -> Drafter:
    """Return a drafter of one of the kinds :data:`TAKE_A_MODEL`, with settings or without.

    Raises:
        InvalidArgument: a wrong setting.
    """
    call = _call("drafter", kind)
    make = registry.get("drafter", call.name)
    settings = call.settings(make) if call.given else {}
    made: Drafter = make(**settings, model=model)
    return made


def with_its_model(name: str) -> tuple[str, str] | None:
    """Return both parts of ``KIND:MODEL`` or ``KIND(...):MODEL``; None for any other name."""
    kind, *rest = split(name, ":")
    model = ":".join(rest)
    return (kind, model) if model and _kind(kind) in TAKE_A_MODEL else None


def lacks_model(name: str) -> bool:
    """Return whether a name is of one of the kinds :data:`TAKE_A_MODEL` and says no model."""
    return _kind(name) in TAKE_A_MODEL and with_its_model(name) is None


def _kind(name: str) -> str:
    return name.partition("(")[0].strip()


def with_partner(
    name: str,
    target: object,
    *,
    tree: str | Shape | None = None,
    draft_length: int | str | LengthController | None = None,
    verifier: str | Verifier = "coupled",
    bitwise: bool = False,
) -> str:
    """Return the drafter's name with the embedded target's drafter, where both go together.

    ``auto`` is the fastest known: with the embedded target suffix decoding and behind it the
    embedded drafter; that one alone where more is asked of it than to draft.

    Args:
        name: of a drafter.
        target: a name or a path.
        tree: what the decoder is asked for, likewise all that follows.
        draft_length: see there.
        verifier: see there.
        bitwise: see there.
    """
    asked = tree is not None or draft_length is not None or bitwise
    alone = asked or not make_verifier(verifier).same_text
    partner = zoo.partner(target)
    is_pair = partner.startswith(zoo.PREFIX)
    if is_pair and lacks_model(name) and _kind(name) != "retokenized":
        return f"{name}:{partner}"
    if name != "auto":
        return name
    return f"cascade:{partner}" if is_pair and not alone else partner


def drafter_by_name(name: str | os.PathLike[str], shape: Shape | None = None) -> Drafter | None:
    """Return the drafter of a registered name, with its settings; None if only a model is meant.

    Nothing is loaded or looked up, so what cannot be a drafter's name is refused at once.

    Raises:
        InvalidArgument: the name of a kind that needs a model, a shape for a method that drafts
            no trees, or a wrong setting.
        UnknownName: a misspelt method.
        EntryPointError: another package's method, which cannot be had.
    """
    _need_name("drafter", name)
    text = os.fspath(name)
    parts = with_its_model(text)
    if parts is not None:
        if shape is not None:
            raise InvalidArgument(f"drafter {text!r} takes no tree of its own: leave the tree out")
        call = _call("drafter", parts[0])
        if call.given:
            call.settings(registry.get("drafter", call.name))
        return None
    known = registry.names("drafter")
    is_there = os.path.exists(text)
    registered = text.partition("(")[0].strip() in known
    call = _call("drafter", text) if registered or not is_there else Call(text)
    if call.name in _NEED_A_MODEL:
        raise InvalidArgument(f"drafter {call.name!r} {_NEED_A_MODEL[call.name]}")
    if call.name in known:
        if shape is not None:
            raise InvalidArgument(
                f"a tree needs a draft model, drafter {text!r} is none: give a model as drafter"
            )
        made: Drafter = _make("drafter", call, registry.get("drafter", call.name))
        return made
    near = get_close_matches(call.name.lower(), known, n=1, cutoff=0.75)
    if not is_there and (near or is_call(text)):
        raise UnknownName(f"{registry.unknown('drafter', call.name)}; or give a model folder")
    return None
