"""``--recipe FILE``, ``--preset NAME``: a recipe in place of options, those given kept."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from ..errors import InvalidArgument

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


PRESET = (
    "Values that go together: short (float16, 5 draft tokens, compiled), long (streaming cache of "
    "4 + 1020), balanced (4 + 508), least-memory (int8, 4 + 252); options given explicitly win."
)
"""What ``--preset`` is, in a line."""


def recipe_for(
    context: typer.Context,
    file: str | None,
    preset: str | None,
    options: Sequence[str],
    *,
    drafter: str | None = None,
) -> "Recipe | None":
    """Return the recipe in a file or of a preset, with these options where they are given.

    What a preset is made into for the models and the device is told on standard error.

    Args:
        context: of the command line.
        file: of the recipe.
        preset: its name.
        options: what of the command line a recipe says too.
        drafter: what a preset drafts with; None is what the option says.

    Returns:
        None where neither is asked for.

    Raises:
        InvalidArgument: both are, or the file or the preset cannot be used.
    """
    given = {name: context.params[name] for name in options if is_given(context, name)}
    if preset is None:
        if file is None:
            return None
        from ..recipe import Recipe

        return Recipe.read(file).but(**given)
    if file is not None:
        raise InvalidArgument(f"--preset {preset} with --recipe {file}: give one of them")
    from ..presets import notes, preset_recipe

    target, device = context.params["target"], context.params["device"]
    drafter = drafter or context.params["drafter"] or "auto"
    recipe = preset_recipe(preset, target, drafter, device=device, given=given)
    for note in notes(preset, recipe, given):
        print(f"outpace: {note}", file=sys.stderr)
    return recipe


def is_given(context: typer.Context, option: str) -> bool:
    """Return whether an option stands on the command line, be it with its default."""
    source = context.get_parameter_source(option)
    return source is not None and source.name != "DEFAULT"
