"""``outpace bench``: what is fastest here, by how much, and is the text still the same."""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import zoo
from ..calls import split
from ..errors import InvalidArgument
from .interrupt import INTERRUPTED
from .options import a_number, a_text, a_whole
from .recipe import a_recipe, is_given, recipe_for
from .text import visible
from .warm import RUNTIME, run_as

if TYPE_CHECKING:
    from ..bench import Bench, BenchPrompt, Models, Record
    from ..bench.keeping import Notify
    from ..recipe import Recipe
    from .screen import Screen

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
            "device are those of all methods; --target, --drafter, --dtype and --device win where "
            "they are given."
        ),
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
    dtype: Annotated[
        str, a_text("NAME", "float32, bfloat16, float16, int8, int4 (on a GPU by torchao).")
    ] = "bfloat16",
    device: Annotated[str, a_text("NAME", "auto, cpu, cuda …")] = "auto",
    runtime: Annotated[str, a_text("NAME", f"{RUNTIME} Models are compiled first.")] = "auto",
    seed: Annotated[int, a_whole("Of the noise and of the order of the methods.")] = 0,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="OUT", help="Write the whole record here.")
    ] = None,
    markdown_file: Annotated[
        str | None, typer.Option("--markdown", metavar="OUT", help="Write the tables here.")
    ] = None,
    color: Annotated[bool, typer.Option(help="Colours, on a terminal.")] = True,
) -> int:
    """Measure methods side by side: same prompts, in turn, in one process."""
    from .screen import Screen, loading

    outputs = [writable(one) for one in (json_file, markdown_file) if one is not None]
    if len(set(outputs)) < len(outputs):
        raise InvalidArgument(f"--json and --markdown are one file ({json_file}): give two")
    recipe = None
    if recipe_file is not None:
        recipe, drafter = _recipe(context, recipe_file, drafter)
        target, dtype, device = recipe.target, recipe.dtype, recipe.device
    pair = zoo.partner(target)
    if drafter is None and pair.startswith(zoo.PREFIX):
        drafter = pair
    names = names_in(methods) if methods else _default_methods(drafter)
    names += [f"tree:{shape}" for shape in tree or ()]
    names += [] if recipe is None else ["recipe"]
    config: dict[str, Any] = {
        "target": target,
        "drafter": drafter,
        "methods": names,
        "recipe": recipe_file,
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
        "device": device,
        "runtime": runtime,
        "seed": seed,
    }
    with loading(f"loading {target}"):
        made, where = _prepare(config, recipe, chosen=bool(methods))
    screen = Screen(sys.stdout, color=color)
    with progress(made.steps) as notify:
        done = made.run(notify)
    from ..bench import make_record
    from ..bench.report import is_wrong, markdown

    record = make_record(done, {**config, "command": _command(config)}, where)
    lost = []
    if json_file is not None:
        lost += write_file(json_file, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    if markdown_file is not None:
        lost += write_file(markdown_file, markdown(record))
    show(screen, record)
    if lost:
        raise InvalidArgument(f"not written: {'; '.join(lost)}: give another place")
    if done.interrupted:
        return INTERRUPTED
    return 1 if done.failed or is_wrong(record) else 0


def show(screen: "Screen", record: "Record", *, brief: bool = False) -> None:
    """Print the tables of a record, the verdict and the warnings.

    Args:
        screen: where.
        record: of a run.
        brief: leave out the table by kind of text, and advice about options.
    """
    from ..bench.report import (
        BREAKDOWN,
        SPEED,
        TEXT,
        breakdown_rows,
        speed_rows,
        text_rows,
        verdict,
    )

    if not screen.terminal:
        screen.console.width = 200  # nothing is gained by folding lines for a file
    screen.console.print(grid(SPEED, speed_rows(record), screen))
    screen.console.print(grid(TEXT, text_rows(record), screen))
    if not brief and (cells := breakdown_rows(record)):
        screen.console.print(grid(BREAKDOWN, cells, screen))
    screen.console.print(verdict(record))
    for warning in record["warnings"]:
        if not (brief and warning["kind"] in {"interval", "few"}):
            screen.console.print(f"warning: {visible(warning['text'])}", style="yellow")


def _recipe(context: typer.Context, file: str, drafter: str | None) -> tuple["Recipe", str | None]:
    """Return the recipe in a file, as the options change it, and the draft model of all methods."""
    from ..compose import drafter_by_name, with_its_model, with_partner

    recipe = recipe_for(context, file, ("target", "dtype", "device"))
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
    elif "recipe" in names:
        raise InvalidArgument("method 'recipe': give --recipe FILE, or leave it out of --methods")
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
    made = Bench(
        models,
        [make_method(name, models, config["draft_length"]) for name in names],
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

    settings = {"dtype": config["dtype"], "device": config["device"]}
    target = load(config["target"], **settings)
    drafter = load(config["drafter"], **settings) if drafts else None
    run_as([model for model in (target, drafter) if model is not None], config["runtime"])
    return Models(target, drafter, recipe=recipe)


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


def writable(name: str) -> Path:
    """Refuse a file that could not be written after minutes of measuring."""
    path = Path(name).expanduser().resolve()
    if path.is_dir():
        raise InvalidArgument(f"{name} is a folder: give the name of a file")
    if not path.parent.is_dir():
        raise InvalidArgument(f"{name}: the folder {path.parent} is not there: make it first")
    if not os.access(path if _is_special(path) else path.parent, os.W_OK):
        raise InvalidArgument(f"{name} cannot be written: give another place")
    return path


def write_file(name: str, text: str) -> list[str]:
    """Write a file whole or not at all; return why it could not be written."""
    path = Path(name).expanduser().resolve()
    try:
        if _is_special(path):
            path.write_text(text, encoding="utf-8")
        else:
            new = path.with_name(path.name + ".new")
            new.write_text(text, encoding="utf-8")
            new.replace(path)
    except OSError as error:
        return [f"{name} ({error.strerror})"]
    return []


def _is_special(path: Path) -> bool:
    """Return whether this is a device or a pipe, which no other file may take the place of."""
    return path.exists() and not path.is_file()


@contextmanager
def progress(steps: int, unit: str = "texts") -> Iterator["Notify"]:
    """Show a bar with the time left on a terminal, elsewhere a line at every tenth."""
    from .screen import Screen

    screen = Screen(sys.stderr)
    if not screen.terminal:
        done, total = 0, steps

        def line(what: str, *, more: int = 0) -> None:
            nonlocal done, total
            done, total = done + 1, total + more
            if done * 10 // total > (done - 1) * 10 // total:
                print(f"{done} of {total} {unit} ({visible(what)})", file=sys.stderr, flush=True)

        yield line
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=screen.console,
        transient=True,
    )
    with bar:
        task = bar.add_task("starting", total=steps)

        def advance(what: str, *, more: int = 0) -> None:
            total = (bar.tasks[0].total or 0) + more
            bar.update(task, advance=1, total=total, description=visible(what))

        yield advance


def grid(head: Sequence[str], cells: Sequence[Sequence[str]], screen: "Screen") -> Any:
    """Return a table for a screen."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    style = "bold" if screen.colored else ""
    table = Table(box=box.SIMPLE_HEAD, header_style=style, pad_edge=False, padding=(0, 1, 0, 0))
    for name in head:
        left = name in {"texts", "method", "same text"}
        table.add_column(name.replace(" ", "\n", 1), justify="left" if left else "right")
    for row in cells:
        table.add_row(*(Text(visible(cell), overflow="fold") for cell in row))
    return table
