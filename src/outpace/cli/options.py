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
CACHE_POLICY = (
    "Forget keys and values of the target: streaming(sinks=4, recent=508), recent(512), "
    "key_norm(keep_ratio=0.8), snapkv, h2o …, several with + between; the text is approximate "
    "then. Default: full, nothing is forgotten."
)
DRAFTER_CACHE_POLICY = "Likewise of a draft model; the text stays exact."
DRAFTER_DTYPE = "Of a draft model; the same where it is left out."


def a_text(metavar: str, about: str) -> Any:
    """An option that takes a text."""
    return typer.Option(metavar=metavar, help=about)
