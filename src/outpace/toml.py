"""Plain values as TOML: what :mod:`tomllib` reads and nothing in the standard library writes."""

import json
import re
from collections.abc import Mapping
from typing import Any

from .errors import InvalidArgument

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dumps(values: Mapping[str, Any]) -> str:
    """Return a table as TOML, its plain values before the tables in it.

    Args:
        values: texts, truth values, numbers, lists of these, and tables by name; what is None is
            left out.

    Raises:
        InvalidArgument: a value of another type, or a text that is none (half a character).
    """
    lines: list[str] = []
    _table(values, (), lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(values: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    given = {str(name): value for name, value in values.items() if value is not None}
    plain = {name: value for name, value in given.items() if not isinstance(value, Mapping)}
    if path and (plain or not given):
        lines += ["", f"[{'.'.join(map(_key, path))}]"]
    lines += [f"{_key(name)} = {_value(name, value)}" for name, value in plain.items()]
    for name, value in given.items():
        if isinstance(value, Mapping):
            _table(value, (*path, name), lines)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _value(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(name, one) for one in value)}]"
    raise InvalidArgument(
        f"{name} is {value!r}, of type {type(value).__name__}: give text, a number, a truth value, "
        "a list or a table"
    )


def _text(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidArgument(f"{text!r} has half a character: give text that can be encoded")
    # JSON's escapes are TOML's as well; a delete is the one character it leaves that TOML forbids
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
