"""Axes in braces: ``draft@{K}``, and sums of them, ``streaming(sinks=4, recent={budget-4})``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import InvalidArgument

_BRACES = re.compile(r"\{(\w+(?:[-+*/]\w+)*)\}")
_SIGN = re.compile(r"([-+*/])")
_SIGNS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
}


def axes_in(template: str) -> list[str]:
    """Return the axes that stand in the braces of a text, each once."""
    words = [word for inside in _BRACES.findall(template) for word in _SIGN.split(inside)[::2]]
    return list(dict.fromkeys(word for word in words if not word.isdigit()))


def filled(template: str, axes: Mapping[str, Any]) -> str:
    """Return a text with values in place of its braces.

    ``+``, ``-``, ``*`` and ``/`` are worked out from left to right, ``/`` without a rest.

    Raises:
        InvalidArgument: a sum of what is no number, or a division by 0.
    """
    return _BRACES.sub(lambda found: str(_value(found[1], axes)), template)


def _value(inside: str, axes: Mapping[str, Any]) -> Any:
    first, *rest = _SIGN.split(inside)
    total = axes[first] if first in axes else int(first)
    for sign, word in zip(rest[::2], rest[1::2], strict=True):
        other = axes[word] if word in axes else int(word)
        try:
            total = _SIGNS[sign](total, other)
        except (TypeError, ZeroDivisionError) as error:
            raise InvalidArgument(
                f"{{{inside}}}: {total!r} {sign} {other!r} cannot be worked out: give numbers"
            ) from error
    return total
