"""The options of a benchmark that a study can set or vary, with their defaults and checks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...compose import make_lengths
from ...errors import InvalidArgument
from ...models.choosing import check_runtime
from ...models.load import check_dtype
from ...registry import unknown_among
from ...sampling import Sampling

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
_FLAG: Check = (lambda value: isinstance(value, bool), "true or false")
_LENGTH: Check = (
    lambda value: isinstance(value, int | str) and not isinstance(value, bool),
    "a number of tokens or the name of a controller",
)

OPTIONS: Mapping[str, tuple[Any, Check]] = {
    "target": ("zoo:target", _TEXT),
    "drafter": (None, _or_none(_TEXT)),
    "dtype": ("bfloat16", _TEXT),
    "drafter_dtype": (None, _or_none(_TEXT)),
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
    "ignore_eos": (True, _FLAG),
    "ends": (None, _or_none(_TEXT)),
    "seed": (0, _is_whole(0)),
    "apart": (False, _FLAG),
    "texts": (None, _or_none((_is_names, "a list of workloads or files"))),
}
"""Name → default, and what is allowed. ``samples`` is how often each prompt is asked with another
seed, ``turns`` how many turns of a conversation are had at most, ``ends`` a token that ends a text
as EOS does, where this is not ignored, ``apart`` has each precision measured by itself, one after
another, for targets of which only one copy fits, ``texts`` are what precisions are compared on;
everything else is as in ``outpace bench``."""
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
    for name in ("temperature", "top_p", "repetition_penalty"):  # transformers takes no whole ones
        options[name] = None if options[name] is None else float(options[name])
    try:
        law = ("temperature", "top_k", "top_p", "repetition_penalty")
        Sampling(**{name: options[name] for name in law})
        make_lengths(options["draft_length"])
        check_runtime(options["runtime"])
        check_dtype(options["dtype"])
        check_dtype(options["drafter_dtype"] or options["dtype"])
    except InvalidArgument as error:
        raise type(error)(f"{where}: {error}") from error
    return options


def texts(table: Mapping[str, Any], key: str, default: Sequence[str], where: str) -> list[str]:
    """Return a list of texts of a table.

    Raises:
        InvalidArgument: it is none.
    """
    found = table.get(key, list(default))
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InvalidArgument(f"{where}: {key} is {found!r}: give a list of names")
    return found


def file_name(name: object, where: str) -> str:
    """Return a name of which files are named.

    Raises:
        InvalidArgument: no file can be.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
        raise InvalidArgument(f"{where}: name is {name!r}: give letters, digits, - and _")
    return name
