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


def a_text(metavar: str, about: str) -> Any:
    """An option that takes a text."""
    return typer.Option(metavar=metavar, help=about)
