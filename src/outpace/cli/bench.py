"""``outpace bench``: what is fastest here, by how much, and is the text still the same."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import zoo
from ..calls import split
from ..errors import InvalidArgument
from .files import writable, write_file
from .interrupt import INTERRUPTED
from .options import DRAFTER_DTYPE, DTYPE, a_number, a_text, a_whole
from .progress import progress
from .recipe import PRESET, a_recipe, is_given, recipe_for
from .tables import grid, show
from .text import visible
from .warm import RUNTIME, run_as

if TYPE_CHECKING:
    from ..bench import Bench, BenchPrompt, Models, Record
    from ..recipe import Recipe

DEFAULT_METHODS = ("hf", "hf-assisted", "plain", "draft", "prompt-lookup", "ngram")


def bench(
    context: typer.Context,
    target: Annotated[str, a_text("MODEL", "Model folder or hub name.")] = "zoo:target",
    drafter: Annotated[
        str | None,
        a_text("MODEL", "Draft model of draft, tree and hf-assisted; zoo:target has its own."),
    ] = None,
    methods: Annotated[
        list[str] | None,
        a_text(
            "NAMES",
            "Separated by commas: hf, hf-compiled, hf-assisted, hf-assisted-tuned, "
            "hf-prompt-lookup, hf-beam, beam, plain, draft, tree, prompt-lookup, ngram …; NAME@K "
            "drafts K tokens in this method alone, tree:SHAPE trees of this shape, "
            "NAME(KEY=VALUE, ...) gives a drafter settings, as in early-exit(layers=2)@3. "
            f"Default: {','.join(DEFAULT_METHODS)}, as far as there is a draft model.",
        ),
    ] = None,
    recipe_file: Annotated[
        str | None,
        a_recipe(
            "Measure this recipe too, as the method recipe. Its target, draft model, dtype and "
            "device are those of all methods; --target, --drafter, --dtype, --drafter-dtype and "
            "--device win where they are given."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        a_text("NAME", f"Measure this preset too, as the method preset. {PRESET}"),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        a_text(
            "NAMES",
            "Separated by commas: wikitext, pg19, tinystories, humaneval, spec-bench, "
            "spec-bench:TASK, mt-bench, synthetic(tokens=N), hub:NAME, modelscope:ORG/NAME, or a "
            'file (.txt is one prompt, .jsonl has a text or an object with "prompt" or "turns" a '
            "line). Default: pg19,humaneval.",
        ),
    ] = None,
    data_dir: Annotated[
        str | None, a_text("DIR", "Folder of the evaluation texts; else data/ in OUTPACE_DATA.")
    ] = None,
    limit: Annotated[int, a_whole("Prompts of each workload at most.")] = 5,
    prompt_tokens: Annotated[int, a_whole("Length of a passage of pg19 or wikitext.")] = 128,
    max_new_tokens: Annotated[int, a_whole("New tokens of every text; EOS is ignored.")] = 128,
    repeats: Annotated[int, a_whole("How often every prompt is continued.")] = 2,
    warmup: Annotated[int, a_whole("Prompts a method continues before anything counts.")] = 1,
    tree: Annotated[
        list[str] | None,
        a_text(
            "SHAPE",
            "Measure trees of this shape too, as in 'pruned(depth=8, branch=3, tau=0.03)'; may be "
            "given several times.",
        ),
    ] = None,
    draft_length: Annotated[
        str,
        a_text(
            "N",
            "Draft tokens a round, or a controller: gate (as much as pays), adaptive, confidence; "
            "with a number trees have their own length.",
        ),
    ] = "gate",
    temperature: Annotated[float, a_number("0 is greedy.")] = 0.0,
    dtype: Annotated[str, a_text("NAME", DTYPE)] = "bfloat16",
    drafter_dtype: Annotated[str | None, a_text("NAME", DRAFTER_DTYPE)] = None,
    device: Annotated[str, a_text("NAME", "auto, cpu, cuda …")] = "auto",
    runtime: Annotated[str, a_text("NAME", f"{RUNTIME} Models are compiled first.")] = "auto",
    seed: Annotated[int, a_whole("Of the noise and of the order of the methods.")] = 0,
    replay: Annotated[
        str | None,
        a_text("RECORD", "Run again what this record of --json says, and compare with it."),
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="OUT", help="Write the whole record here.")
    ] = None,
    markdown_file: Annotated[
        str | None, typer.Option("--markdown", metavar="OUT", help="Write the tables here.")
    ] = None,
    color: Annotated[bool, typer.Option(help="Colours, on a terminal.")] = True,
) -> int:
    """Measure methods side by side: same prompts, in turn, in one process."""
    outputs = [writable(one) for one in (json_file, markdown_file) if one is not None]
    if len(set(outputs)) < len(outputs):
        raise InvalidArgument(f"--json and --markdown are one file ({json_file}): give two")
    before, recipe = None, None
    if replay is not None:
        before, config, recipe = _replayed(context, replay)
    else:
        recipe = recipe_for(context, recipe_file, preset, _OF_A_RECIPE, drafter=drafter)
        if recipe is not None:
            recipe, drafter = _with_drafter(context, recipe, drafter)
            target, dtype, device = recipe.target, recipe.dtype, recipe.device
            drafter_dtype = recipe.drafter_dtype
        pair = zoo.partner(target)
        if drafter is None and pair.startswith(zoo.PREFIX):
            drafter = pair
        names = names_in(methods) if methods else _default_methods(drafter)
        names += [f"tree:{shape}" for shape in tree or ()]
        names += [] if recipe is None else ["recipe" if preset is None else "preset"]
        config = {
            "target": target,
            "drafter": drafter,
            "methods": names,
            "recipe": recipe_file,
            "preset": preset,
            "prompts": names_in(prompts or ["pg19,humaneval"]),
            "data_dir": data_dir,
            "limit": limit,
            "prompt_tokens": prompt_tokens,
            "max_new_tokens": max_new_tokens,
            "repeats": repeats,
            "warmup": warmup,
            "draft_length": draft_length,
            "temperature": temperature,
            "dtype": dtype,
            "drafter_dtype": drafter_dtype,
            "device": device,
            "runtime": runtime,
            "seed": seed,
        }
    chosen = bool(methods) or before is not None
    return _measure(config, recipe, before, (json_file, markdown_file), chosen=chosen, color=color)


def _measure(
    config: dict[str, Any],
    recipe: "Recipe | None",
    before: "Record | None",
    files: tuple[str | None, str | None],
    *,
    chosen: bool,
    color: bool,
) -> int:
    """Measure, write and show; return the exit code."""
    from ..bench import make_record
    from ..bench.again import COMPARED, Again
    from ..bench.report import is_wrong, markdown
    from .screen import Screen, loading

    with loading(f"loading {config['target']}"):
        made, where = _prepare(config, recipe, chosen=chosen)
    screen = Screen(sys.stdout, color=color)
    with progress(made.steps) as notify:
        done = made.run(notify)
    record = make_record(done, {**config, "command": _command(config)}, where)
    lost = []
    for file, text in zip(files, (_as_json(record), markdown(record)), strict=True):
        if file is not None:
            lost += write_file(file, text)
    show(screen, record)
    if before is not None:
        both = Again(before, record)
        screen.console.print(grid(COMPARED, both.rows(), screen))
        screen.console.print(both.verdict())
        for sentence in both.sentences():
            screen.console.print(f"note: {visible(sentence)}", style="yellow")
    if lost:
        raise InvalidArgument(f"not written: {'; '.join(lost)}: give another place")
    if done.interrupted:
        return INTERRUPTED
    return 1 if done.failed or is_wrong(record) else 0


def _as_json(record: "Record") -> str:
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


_OF_A_RECIPE = ("target", "dtype", "drafter_dtype", "device")
_OWN = ("replay", "json_file", "markdown_file", "color")
"""Options that say nothing of what is measured."""


def _replayed(
    context: typer.Context, file: str
) -> tuple["Record", dict[str, Any], "Recipe | None"]:
    """Return a record, what it was asked for with, and the recipe it measured."""
    from ..bench.again import read_record

    for name in context.params:
        if name not in _OWN and is_given(context, name):
            raise InvalidArgument(
                f"--{name.replace('_', '-')} with --replay, which runs what its record says: leave "
                "one of them out"
            )
    before = read_record(Path(file))
    # a draft model had the target's dtype before it could have another
    config = {"drafter_dtype": None, "preset": None, **before["config"]}
    config.pop("command", None)
    needed = [name for name in context.params if name not in {*_OWN, "tree", "recipe_file"}]
    for name in [*needed, "recipe"]:
        if name not in config:
            raise InvalidArgument(
                f"record {file} does not say its {name}: only what outpace bench measured can be "
                "run again"
            )
    recipe = None
    same = {name: config[name] for name in _OF_A_RECIPE}
    if config["recipe"] is not None:
        from ..recipe import Recipe

        recipe = Recipe.read(config["recipe"]).but(**same)
    elif config["preset"] is not None:
        from ..presets import preset_recipe

        drafter = config["drafter"] or "auto"
        device = config["device"]
        recipe = preset_recipe(
            config["preset"], config["target"], drafter, device=device, given=same
        )
    return before, config, recipe


def _with_drafter(
    context: typer.Context, recipe: "Recipe", drafter: str | None
) -> tuple["Recipe", str | None]:
    """Return a recipe as the option changes its draft model, and the draft model of all methods."""
    from ..compose import drafter_by_name, with_its_model, with_partner

    named = with_partner(recipe.drafter, recipe.target)
    if with_its_model(named) is None and drafter_by_name(named) is None:
        if is_given(context, "drafter") and drafter != named:
            recipe = recipe.but(drafter=drafter, tree=recipe.tree)
        else:
            drafter = named
    return recipe, drafter


def _prepare(
    config: dict[str, Any], recipe: "Recipe | None", *, chosen: bool
) -> tuple["Bench", dict[str, Any]]:
    """Check everything, then load: loading may take minutes."""
    from ..bench import (
        Bench,
        Writing,
        check_methods,
        environment,
        fit_prompts,
        load_own,
        load_prompts,
        make_method,
        needs_drafter,
        that_run,
    )
    from ..compose import lacks_model, make_lengths
    from ..models.choosing import check_runtime
    from ..sampling import Sampling
    from ..stopping import check_ends

    names = check_methods(config["methods"], config["temperature"])
    if recipe is not None:
        recipe.set_threads()
    for one, how in (("recipe", "--recipe FILE"), ("preset", "--preset NAME")):
        if one in names and (recipe is None or config[one] is None):
            raise InvalidArgument(f"method {one!r}: give {how}, or leave it out of --methods")
    make_lengths(config["draft_length"])
    check_runtime(config["runtime"])
    check_ends(config["max_new_tokens"], ())
    Sampling(temperature=config["temperature"], seed=config["seed"])
    for option in ("repeats", "warmup"):
        least = int(option == "repeats")
        if config[option] < least:
            raise InvalidArgument(f"{config[option]} {option}: give {least} or more")
    data_dir = config["data_dir"]
    prompts: list[BenchPrompt] = load_prompts(
        config["prompts"],
        data_dir=None if data_dir is None else Path(data_dir),
        limit=config["limit"],
        prompt_tokens=config["prompt_tokens"],
    )
    needs = [name for name in names if needs_drafter(name)]
    if needs and config["drafter"] is None:
        raise InvalidArgument(f"method {needs[0]!r} needs a draft model: give --drafter")
    takes = config["drafter"] is not None and any(map(lacks_model, names))
    models = _load(config, recipe, bool(needs) or takes)
    if not chosen:
        names, why = that_run(names, models)
        config["methods"] = names
        if why is not None:
            print(why, file=sys.stderr)
    prompts, cut = fit_prompts(prompts, models, config["max_new_tokens"])
    own = {id(model): model for name in names for model in load_own(name, models)}
    run_as(list(own.values()), config["runtime"])
    methods = [make_method(name, models, config["draft_length"]) for name in names]
    made = Bench(
        models,
        methods,
        prompts,
        Writing(config["max_new_tokens"], config["temperature"], config["seed"]),
        config["repeats"],
        config["warmup"],
        cut,
    )
    return made, environment()


def _load(config: dict[str, Any], recipe: "Recipe | None", drafts: bool) -> "Models":
    from ..bench import Models
    from ..models import load

    place, dtype = config["device"], config["dtype"]
    target = load(config["target"], dtype=dtype, device=place)
    own = config["drafter_dtype"] or dtype
    drafter = load(config["drafter"], dtype=own, device=place) if drafts else None
    run_as([model for model in (target, drafter) if model is not None], config["runtime"])
    return Models(target, drafter, recipe=recipe, drafter_dtype=config["drafter_dtype"])


def _default_methods(drafter: str | None) -> list[str]:
    return [name for name in DEFAULT_METHODS if drafter or name not in {"draft", "hf-assisted"}]


def names_in(given: Sequence[str]) -> list[str]:
    """Return the names in options that take several, separated by commas."""
    pieces = [name for one in given for name in split(one, ",")]
    return [name.strip() for name in pieces if name.strip()]


def _command(config: dict[str, Any]) -> str:
    words = ["outpace", "bench"]
    for name, value in config.items():
        if value is None:
            continue
        text = ",".join(value) if isinstance(value, list) else str(value)
        words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)
