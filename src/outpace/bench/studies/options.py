"""The options of a benchmark that a study can set or vary, with their defaults and checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import InvalidArgument
from ...registry import unknown_among

Check = tuple[Callable[[object], bool], str]


def _is_whole(least: int) -> Check:
    def fits(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    return fits, f"a whole number, {least} or more"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_names(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _or_none(check: Check) -> Check:
    fits, words = check
    return lambda value: value is None or fits(value), words


_TEXT: Check = (lambda value: isinstance(value, str) and bool(value), "a text")
_NUMBER: Check = (_is_number, "a number, 0 or more")
_LENGTH: Check = (
    lambda value: isinstance(value, int | str) and not isinstance(value, bool),
    "a number of tokens or the name of a controller",
)

OPTIONS: Mapping[str, tuple[Any, Check]] = {
    "target": ("zoo:target", _TEXT),
    "drafter": (None, _or_none(_TEXT)),
    "dtype": ("bfloat16", _TEXT),
    "device": ("auto", _TEXT),
    "runtime": ("auto", _TEXT),
    "threads": (None, _or_none(_is_whole(1))),
    "draft_length": ("gate", _LENGTH),
    "prompts": (["pg19", "humaneval"], (_is_names, "a list of workloads or files")),
    "data_dir": (None, _or_none(_TEXT)),
    "limit": (5, _is_whole(1)),
    "samples": (1, _is_whole(1)),
    "turns": (2, _is_whole(1)),
    "prompt_tokens": (128, _is_whole(1)),
    "max_new_tokens": (128, _is_whole(1)),
    "repeats": (1, _is_whole(1)),
    "warmup": (1, _is_whole(0)),
    "temperature": (0.0, _NUMBER),
    "top_k": (None, _or_none(_is_whole(1))),
    "top_p": (None, _or_none(_NUMBER)),
    "repetition_penalty": (1.0, _NUMBER),
    "ignore_eos": (True, (lambda value: isinstance(value, bool), "true or false")),
    "ends": (None, _or_none(_TEXT)),
    "seed": (0, _is_whole(0)),
}
"""Name → default, and what is allowed. ``samples`` is how often each prompt is asked with another
seed, ``turns`` how many turns of a conversation are had at most, ``ends`` a token that ends a text
as EOS does, where this is not ignored; everything else is as in ``outpace bench``."""
DEFAULTS: Mapping[str, Any] = {name: default for name, (default, _) in OPTIONS.items()}


def checked(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return all options, those given over the defaults.

    Raises:
        InvalidArgument: an unknown option, or a value it cannot have.
    """
    for name, value in given.items():
        if name not in OPTIONS:
            raise InvalidArgument(f"{where}: {unknown_among('option', name, list(OPTIONS))}")
        if name == "prompts" and isinstance(value, str):
            continue
        fits, words = OPTIONS[name][1]
        if not fits(value):
            raise InvalidArgument(f"{where}: {name} is {value!r}: give {words}")
    options = {**DEFAULTS, **given}
    if isinstance(options["prompts"], str):
        options["prompts"] = [options["prompts"]]
    return options
