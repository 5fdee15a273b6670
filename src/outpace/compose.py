"""Parts of a decoder from their names: drafters, verifiers, length controllers."""

from __future__ import annotations

import os
from difflib import get_close_matches

import torch

from . import registry
from .drafters import Drafter
from .errors import InvalidArgument, ModelNotFound, UnknownName
from .lengths import LengthController
from .lengths.fixed import FixedLength
from .models import load
from .verifiers import Verifier


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


def make_drafter(
    name: str | os.PathLike[str],
    *,
    dtype: str | torch.dtype = "bfloat16",
    device: str | torch.device | None = None,
) -> Drafter:
    """Return a drafter from a registered name, a model folder or a hub name.

    Raises:
        UnknownName: neither a method nor a model.
        ModelError: the model cannot be used.
    """
    text = os.fspath(name)
    check_drafter_name(text)
    found = registry.find("drafter", text)
    if found is not None:
        made: Drafter = found()
        return made
    from .drafters.model import ModelDrafter

    try:
        return ModelDrafter(load(text, dtype=dtype, device=device))
    except ModelNotFound as error:
        if os.sep in text or os.path.exists(text):
            raise
        raise UnknownName(f"{registry.unknown('drafter', text)}; or give a model folder") from error


def check_drafter_name(name: str | os.PathLike[str]) -> None:
    """Refuse what cannot be a drafter's name, before anything is loaded or looked up.

    Raises:
        InvalidArgument: the name of a kind that needs a model, or a misspelt method.
    """
    _need_name("drafter", name)
    text = os.fspath(name)
    if text == "model":
        raise InvalidArgument(
            "drafter 'model' needs to know which: give the drafter's folder or hub name"
        )
    near = get_close_matches(text.lower(), registry.names("drafter"), n=1, cutoff=0.75)
    if near and near[0] != text and not os.path.exists(text):
        raise UnknownName(f"{registry.unknown('drafter', text)}; or give a model folder")
