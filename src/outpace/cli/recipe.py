"""``--recipe FILE``: a recipe in the place of options, those given explicitly kept."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ..recipe import Recipe


OF_A_RECIPE = (
    "target",
    "drafter",
    "tree",
    "draft_length",
    "verifier",
    "dtype",
    "drafter_dtype",
    "cache_policy",
    "drafter_cache_policy",
    "device",
    "runtime",
)
"""What a recipe says of a decoder that options can say too."""


def a_recipe(about: str) -> Any:
    """The option ``--recipe``."""
    return typer.Option("--recipe", metavar="FILE", help=about)


def recipe_for(context: typer.Context, file: str, options: Sequence[str]) -> "Recipe":
    """Return the recipe in a file, with these options instead where they are given explicitly.

    Raises:
        InvalidArgument: the file cannot be used.
    """
    from ..recipe import Recipe

    return Recipe.read(file).but(
        **{name: context.params[name] for name in options if is_given(context, name)}
    )


def is_given(context: typer.Context, option: str) -> bool:
    """Return whether an option stands on the command line, be it with its default."""
    source = context.get_parameter_source(option)
    return source is not None and source.name != "DEFAULT"
