"""``outpace memory``: what a preset takes, by the models' configurations alone."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidArgument
from .options import DRAFTER_DTYPE, DTYPE, a_text, a_whole
from .recipe import OF_A_RECIPE, a_recipe, is_given
from .tables import grid
from .text import print_json

if TYPE_CHECKING:
    from ..recipe import Recipe

HEAD = (
    "preset",
    "dtype",
    "weights",
    "drafter weights",
    "kv cache",
    "drafter kv",
    "activations about",
    "all",
    "while loading",
)


def memory(
    context: typer.Context,
    target: Annotated[str, a_text("MODEL", "Model folder or hub name.")] = "zoo:target",
    drafter: Annotated[
        str,
        a_text("NAME", "A draft model, or a method; auto is as of generate."),
    ] = "auto",
    preset: Annotated[str | None, a_text("NAME", "One preset. Default: all.")] = None,
    recipe_file: Annotated[
        str | None, a_recipe("What this recipe takes, in place of presets.")
    ] = None,
    prompt_tokens: Annotated[int, a_whole("Length of the prompt.")] = 128,
    max_new_tokens: Annotated[int, a_whole("New tokens.")] = 128,
    memory_limit: Annotated[
        str | None, a_text("SIZE", "Say what fits: 4GB, 300MB (decimal), 4GiB (binary).")
    ] = None,
    dtype: Annotated[str, a_text("NAME", f"{DTYPE} Default: the preset's.")] = "bfloat16",
    drafter_dtype: Annotated[str | None, a_text("NAME", DRAFTER_DTYPE)] = None,
    cache_policy: Annotated[str | None, a_text("POLICY", "Default: the preset's.")] = None,
    drafter_cache_policy: Annotated[str | None, a_text("POLICY", "Default: the preset's.")] = None,
    device: Annotated[str, a_text("NAME", "auto, cpu, cuda …")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> int:
    """Say how many bytes presets take with two models; only their configurations are read."""
    from ..memory import draft_model, needs, parse_size, size_text
    from ..models.outline import Outline
    from .screen import Screen

    for option, tokens in (("prompt-tokens", prompt_tokens), ("max-new-tokens", max_new_tokens)):
        if tokens < 1:
            raise InvalidArgument(f"--{option} {tokens}: give 1 or more")
    limit = None if memory_limit is None else parse_size(memory_limit)
    recipes = _recipes(context, preset, recipe_file)
    outlines: dict[str, Outline] = {}

    def outline(name: str | None) -> Outline | None:
        if name is not None and name not in outlines:
            outlines[name] = Outline.of(name)
        return None if name is None else outlines[name]

    found = {
        name: needs(
            recipe,
            prompt_tokens,
            max_new_tokens,
            target=outline(recipe.target),
            drafter=outline(draft_model(recipe.drafter)),
        )
        for name, recipe in recipes.items()
    }
    if as_json:
        record = {
            name: {
                "target": recipes[name].target,
                "drafter": recipes[name].drafter,
                "dtype": recipes[name].dtype,
                "cache_policy": recipes[name].cache_policy,
                "drafter_cache_policy": recipes[name].drafter_cache_policy,
                "weights": one.weights,
                "drafter_weights": one.drafter_weights,
                "kv": one.kv,
                "drafter_kv": one.drafter_kv,
                "activations": one.activations,
                "total": one.total,
                "loading": one.loading,
                "fits": None if limit is None else one.most <= limit,
            }
            for name, one in found.items()
        }
        print_json({"prompt_tokens": prompt_tokens, "new_tokens": max_new_tokens, "bytes": record})
        return 0
    screen = Screen(sys.stdout)
    if not screen.terminal:
        screen.console.width = 200  # nothing is gained by folding lines for a file
    rows = []
    for name, one in found.items():
        parts = (one.weights, one.drafter_weights, one.kv, one.drafter_kv, one.activations)
        fits = () if limit is None else ("yes" if one.most <= limit else "no",)
        sizes = map(size_text, (*parts, one.total, one.loading))
        rows.append([name, recipes[name].dtype, *sizes, *fits])
    recipe = next(iter(recipes.values()))
    screen.console.print(
        f"{recipe.target}, drafter {recipe.drafter}: {prompt_tokens} tokens and {max_new_tokens} "
        "new ones, decimal units. Graphs, compiled code and the device's libraries come on top.",
        markup=False,
        highlight=False,
    )
    head = HEAD if limit is None else (*HEAD, f"fits {memory_limit}")
    screen.console.print(grid(head, rows, screen))
    return 0


def _recipes(context: typer.Context, preset: str | None, file: str | None) -> "dict[str, Recipe]":
    """Return what is asked about, by name."""
    options = [name for name in OF_A_RECIPE if name in context.params]
    given = {name: context.params[name] for name in options if is_given(context, name)}
    if file is not None:
        if preset is not None:
            raise InvalidArgument(f"--preset {preset} with --recipe {file}: give one of them")
        from ..recipe import Recipe

        return {"recipe": Recipe.read(file).but(**given)}
    from ..presets import PRESETS, preset_recipe

    params = context.params
    names = PRESETS if preset is None else [preset]
    return {
        name: preset_recipe(
            name, params["target"], params["drafter"], device=params["device"], given=given
        )
        for name in names
    }
