"""Parts of a decoder from their names: drafters, tree shapes, verifiers, length controllers."""

from __future__ import annotations

import os
from difflib import get_close_matches

import torch

from . import registry
from .drafters import Drafter
from .drafters.model import ModelDrafter
from .drafters.retokenized import RetokenizedDrafter
from .drafters.shape import Shape
from .drafters.shape_names import parse_shape
from .drafters.tree import TreeDrafter
from .errors import InvalidArgument, ModelNotFound, UnknownName
from .lengths import LengthController
from .lengths.fixed import FixedLength
from .models import LanguageModel, load
from .verifiers import Verifier

RETOKENIZED = "retokenized:"


def make_verifier(verifier: str | Verifier) -> Verifier:
    """Return a verifier from a name, or the one given.

    Raises:
        UnknownName: nothing has that name.
    """
    if isinstance(verifier, Verifier):
        return verifier
    _need_name("verifier", verifier)
    made: Verifier = registry.get("verifier", verifier)()
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
        found = registry.find("lengths", length)
    if found is None:
        raise UnknownName(f"{registry.unknown('lengths', length)}; or give a number of tokens")
    made: LengthController = found()
    return made


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
) -> Drafter:
    """Return a drafter from a registered name, a model folder or a hub name.

    ``retokenized:MODEL`` is a draft model with another tokenizer than the target's.

    Raises:
        UnknownName: neither a method nor a model.
        InvalidArgument: a shape for a method that drafts no trees.
        ModelError: the model cannot be used.
    """
    text = os.fspath(name)
    check_drafter_name(text, shape)
    found = registry.find("drafter", text)
    if found is not None:
        made: Drafter = found()
        return made
    _, other, text = text.rpartition(RETOKENIZED)
    try:
        model = load(text, dtype=dtype, device=device)
        return RetokenizedDrafter(model) if other else model_drafter(model, shape)
    except ModelNotFound as error:
        if os.sep in text or os.path.exists(text):
            raise
        raise UnknownName(f"{registry.unknown('drafter', text)}; or give a model folder") from error


def check_drafter_name(name: str | os.PathLike[str], shape: Shape | None = None) -> None:
    """Refuse what cannot be a drafter's name, before anything is loaded or looked up.

    Raises:
        InvalidArgument: the name of a kind that needs a model, or a shape for a method that
            drafts no trees.
        UnknownName: a misspelt method.
    """
    _need_name("drafter", name)
    text = os.fspath(name)
    if text == "model":
        raise InvalidArgument(
            "drafter 'model' needs to know which: give the drafter's folder or hub name"
        )
    if text == "tree":
        raise InvalidArgument(
            "drafter 'tree' needs a model: give the drafter's folder or hub name, and the tree's "
            "shape as tree (--tree)"
        )
    if text in {"retokenized", RETOKENIZED}:
        raise InvalidArgument(
            "drafter 'retokenized' needs a model: give retokenized:FOLDER or retokenized:NAME"
        )
    if text.startswith(RETOKENIZED):
        if shape is not None:
            raise InvalidArgument(f"drafter {text!r} drafts chains only: leave the tree out")
        return
    known = registry.names("drafter")
    if shape is not None and text in known:
        raise InvalidArgument(
            f"a tree needs a draft model, drafter {text!r} is none: give a model as drafter"
        )
    near = get_close_matches(text.lower(), known, n=1, cutoff=0.75)
    if near and near[0] != text and not os.path.exists(text):
        raise UnknownName(f"{registry.unknown('drafter', text)}; or give a model folder")
