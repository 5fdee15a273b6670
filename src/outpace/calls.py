"""A name with settings in a text: ``early-exit(layers=2)``, ``pruned(depth=8, tau=0.03)``.

Values are Python literals, or words and paths as they are: ``int4``, ``./mine.safetensors``.
"""

from __future__ import annotations

import ast
import inspect
import re
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from .errors import InvalidArgument
from .registry import unknown_among

_NAME = re.compile(r"[^\W\d][\w.-]*")
_WORD = re.compile(r"[^\s,=()\[\]{}'\"]+")
_SPOKEN: Mapping[str, Any] = {"true": True, "false": False, "none": None}

Accepted = Mapping[str, Callable[[Any], bool]]
"""What a setting takes: in words, and the test of a value."""


@dataclass(frozen=True, slots=True)
class Call:
    """A name and the settings it is given.

    Attributes:
        name: what is called.
        given: settings and their values, as they were written, in that order.
    """

    name: str
    given: Sequence[tuple[str, str]] = ()
    """A value without a setting is of the one that stands at its place."""

    def settings(self, make: Callable[..., Any]) -> dict[str, Any]:
        """Return the settings as values, checked against what ``make`` takes.

        Raises:
            InvalidArgument: an unknown setting, one given twice or left out that has no default,
                or a value of another type.
        """
        known = settable(make)
        values: dict[str, Any] = {}
        for place, (key, text) in enumerate(self.given):
            if not key and place < len(known):
                key = list(known)[place]
            if not key:
                raise InvalidArgument(
                    f"{self.name} takes {len(known)} settings: leave {text!r} out"
                )
            if not known:
                raise InvalidArgument(f"{self.name} takes no settings: leave {key!r} out")
            if key not in known:
                raise InvalidArgument(unknown_among(f"setting of {self.name}", key, list(known)))
            if key in values:
                raise InvalidArgument(f"{self.name}: {key} is given twice: give it once")
            values[key] = self._value(key, text, known[key])
        for parameter in _parameters(make):
            if parameter.default is parameter.empty and parameter.name not in values:
                self._lacks(parameter.name, known)
        return values

    def _value(self, key: str, text: str, accepted: Accepted) -> Any:
        known, value = _read(text)
        if not known or not any(fits(value) for fits in accepted.values()):
            shown, kinds = " ".join(text.split()), " or ".join(accepted)
            raise InvalidArgument(f"{self.name}: {key} {shown}: give {kinds}")
        return value

    def _lacks(self, key: str, known: Mapping[str, Accepted]) -> None:
        if key in known:
            raise InvalidArgument(f"{self.name} needs {key}: give {self.name}({key}=...)")
        raise InvalidArgument(
            f"{self.name} needs {key}, which no text can give: make one in Python and hand it over"
        )


def is_call(text: str) -> bool:
    """Return whether a text is meant as ``NAME(...)``, rather than a plain name or a path."""
    name, bracket, _ = text.partition("(")
    return bool(bracket) and _NAME.fullmatch(name.strip()) is not None


def parse_call(text: str, what: str, example: str, *, positional: bool = False) -> Call:
    """Return the call a text is; a name alone is one too.

    Args:
        text: ``NAME`` or ``NAME(KEY=VALUE, ...)``.
        what: what to call it in a refusal, its text included.
        example: a call that is understood.
        positional: values may stand without their settings, before those that have one.

    Raises:
        InvalidArgument: it cannot be read.
    """
    unreadable = InvalidArgument(f"{what}: give NAME(KEY=VALUE, ...), as in {example}")
    name, bracket, rest = text.strip().partition("(")
    name = name.strip()
    if not _NAME.fullmatch(name) or (bracket and not rest.endswith(")")):
        raise unreadable
    given: list[tuple[str, str]] = []
    items = split(rest[:-1], ",", inside=True)
    if not items[-1].strip():  # no settings, or a comma after the last
        items.pop()
    for item in items:
        key, equals, value = (part.strip() for part in item.partition("="))
        if positional and not equals and key and not any(known for known, _ in given):
            given.append(("", key))
            continue
        if not key.isidentifier() or not value:
            raise unreadable
        given.append((key, value))
    return Call(name, given)


def split(text: str, mark: str, *, inside: bool = False) -> list[str]:
    """Return the parts of a text between marks that stand in no parentheses.

    Args:
        text: what to split.
        mark: one character.
        inside: the text is what stands in a pair of parentheses, so quotes and other brackets
            count from its beginning on.
    """
    parts, depth, quote, escaped = [""], int(inside), "", False
    for one in text:
        if one == mark and depth == inside and not quote:
            parts.append("")
            continue
        parts[-1] += one
        if quote:
            quote = "" if one == quote and not escaped else quote
            escaped = one == "\\" and not escaped
        elif depth and one in "\"'":
            quote = one
        elif one == "(" or (depth and one in "[{"):
            depth += 1
        elif depth > inside and one in ")]}":
            depth -= 1
    return parts


def settable(make: Callable[..., Any]) -> dict[str, Accepted]:
    """Return the arguments of a class or function that a text can give, and what each takes."""
    found = {}
    function = getattr(make, "__init__", make) if isinstance(make, type) else make
    scope = getattr(function, "__globals__", {})
    for parameter in _parameters(make):
        accepted = _accepted(_resolved(parameter.annotation, scope))
        if parameter.kind is not parameter.POSITIONAL_ONLY and set(accepted) - {"None"}:
            found[parameter.name] = accepted
    return found


def _parameters(make: Callable[..., Any]) -> list[inspect.Parameter]:
    many = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return [one for one in inspect.signature(make).parameters.values() if one.kind not in many]


def _resolved(annotation: Any, scope: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, scope)
    except Exception:  # a name for type checkers alone: nothing a literal could be
        return object


def _accepted(annotation: Any) -> Accepted:
    """Return what an annotation takes of what can be written as a literal; empty is nothing."""
    if annotation is Any or annotation is inspect.Parameter.empty:
        return {"a literal": lambda value: True}
    for plain, words, fits in _PLAIN:
        if annotation is plain:
            return {words: fits}
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in {Union, types.UnionType}:
        return {words: fits for one in inner for words, fits in _accepted(one).items()}
    if origin is Literal:
        return {repr(one): _equals(one) for one in inner}
    if origin in {list, tuple, Sequence} and len(set(inner) - {...}) == 1:
        each = _accepted(inner[0])
        return {f"a list, each {words}": _all(fits) for words, fits in each.items()}
    return {}


def _equals(wanted: Any) -> Callable[[Any], bool]:
    return lambda value: type(value) is type(wanted) and bool(value == wanted)


def _all(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and all(map(fits, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_PLAIN: Sequence[tuple[Any, str, Callable[[Any], bool]]] = (
    (bool, "True or False", lambda value: isinstance(value, bool)),
    (int, "a whole number", lambda value: _is_number(value) and isinstance(value, int)),
    (float, "a number", _is_number),
    (str, "a text (a number in quotes)", lambda value: isinstance(value, str)),
    (None, "None", lambda value: value is None),
    (types.NoneType, "None", lambda value: value is None),
)


def _read(text: str) -> tuple[bool, Any]:
    """Return whether a value can be read, and what it is: a literal, or a word as it stands."""
    if text.lower() in _SPOKEN:
        return True, _SPOKEN[text.lower()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what looks like a literal and is a word
            return True, ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _WORD.fullmatch(text) is not None, text
