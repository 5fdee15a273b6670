"""Options that several commands share the form of."""

from typing import Any

import typer

from .text import number, whole


def a_whole(about: str) -> Any:
    """An option that takes a whole number."""
    return typer.Option(parser=whole, metavar="N", help=about)


def a_number(about: str) -> Any:
    """An option that takes a number."""
    return typer.Option(parser=number, metavar="X", help=about)


DTYPE = (
    "float32, bfloat16, float16; int8, int4 (on a GPU by torchao), fp8 (on a GPU), bnb-int8, nf4 "
    "(by bitsandbytes)."
)
DRAFTER_DTYPE = "Of a draft model; the same where it is left out."


def a_text(metavar: str, about: str) -> Any:
    """An option that takes a text."""
    return typer.Option(metavar=metavar, help=about)
