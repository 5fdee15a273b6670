"""``outpace bench``: what is fastest here, by how much, and is the text still the same."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import zoo
from ..errors import InvalidArgument
from .interrupt import INTERRUPTED
from .options import a_number, a_text, a_whole
from .screen import Screen, loading
from .text import visible

if TYPE_CHECKING:
    from ..bench import Bench, BenchPrompt, Models, Record

DEFAULT_METHODS = "hf,hf-assisted,plain,draft,prompt-lookup,ngram"


def bench(
    target: Annotated[str, a_text("MODEL", "Model folder or hub name.")] = "zoo:target",
    drafter: Annotated[
        str | None,
        a_text("MODEL", "Draft model of draft and hf-assisted; the embedded target has its own."),
    ] = None,
    methods: Annotated[
        list[str] | None,
        a_text(
            "NAMES",
            "Separated by commas: hf, hf-assisted, hf-assisted-tuned, hf-prompt-lookup, plain, "
            "draft, prompt-lookup, ngram …; NAME@K drafts K tokens in this method alone. "
            f"Default: {DEFAULT_METHODS}, as far as there is a draft model.",
        ),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        a_text(
            "NAMES",
            "Separated by commas: wikitext, pg19, humaneval, spec-bench, or a file (.txt is one "
            'prompt, .jsonl has a text or an object with "prompt" a line). Default: '
            "pg19,humaneval.",
        ),
    ] = None,
    data_dir: Annotated[
        str | None, a_text("DIR", "Folder of the evaluation texts; else data/ in OUTPACE_DATA.")
    ] = None,
    limit: Annotated[int, a_whole("Prompts of each workload at most.")] = 4,
    prompt_tokens: Annotated[int, a_whole("Length of a passage of pg19 or wikitext.")] = 128,
    max_new_tokens: Annotated[int, a_whole("New tokens of every text; EOS is ignored.")] = 128,
    repeats: Annotated[int, a_whole("How often every prompt is continued.")] = 2,
    warmup: Annotated[int, a_whole("Prompts a method continues before anything counts.")] = 1,
    draft_length: Annotated[
        str, a_text("N", "Draft tokens a round, or a controller (adaptive).")
    ] = "5",
    temperature: Annotated[float, a_number("0 is greedy.")] = 0.0,
    dtype: Annotated[str, a_text("NAME", "float32, bfloat16 or float16.")] = "bfloat16",
    device: Annotated[str, a_text("NAME", "auto, cpu, cuda …")] = "auto",
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
    outputs = [_writable(one) for one in (json_file, markdown_file) if one is not None]
    if len(set(outputs)) < len(outputs):
        raise InvalidArgument(f"--json and --markdown are one file ({json_file}): give two")
    pair = zoo.partner(target)
    if drafter is None and pair.startswith(zoo.PREFIX):
        drafter = pair
    config: dict[str, Any] = {
        "target": target,
        "drafter": drafter,
        "methods": _split(methods) or _default_methods(drafter),
        "prompts": _split(prompts) or ["pg19", "humaneval"],
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
        "seed": seed,
    }
    with loading(f"loading {target}"):
        made, cut = _prepare(config)
    screen = Screen(sys.stdout, color=color)
    if cut:
        screen.console.print(f"{cut} prompts are too long for the models: their end is used.")
    with _progress(made.steps) as notify:
        done = made.run(notify)
    from ..bench import make_record
    from ..bench.report import markdown

    record = make_record(made, done, {**config, "command": _command(config)})
    if json_file is not None:
        _write(json_file, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    if markdown_file is not None:
        _write(markdown_file, markdown(record))
    show(screen, record)
    if done.interrupted:
        return INTERRUPTED
    return (
        1 if any(one["kind"] == "bug" for r in record["results"] for one in r["differences"]) else 0
    )


def show(screen: Screen, record: "Record") -> None:
    """Print the tables of a record, the verdict and the warnings."""
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
    screen.console.print(_grid(SPEED, speed_rows(record), screen))
    screen.console.print(_grid(TEXT, text_rows(record), screen))
    if parts := breakdown_rows(record):
        screen.console.print(_grid(BREAKDOWN, parts, screen))
    screen.console.print(verdict(record))
    for warning in record["warnings"]:
        screen.console.print(f"warning: {warning}", style="yellow")


def _prepare(config: dict[str, Any]) -> tuple["Bench", int]:
    """Check everything, then load: loading may take minutes."""
    from ..bench import Bench, Writing, check_methods, fit_prompts, load_prompts, make_method
    from ..compose import make_lengths
    from ..sampling import Sampling
    from ..stopping import check_ends

    names = check_methods(config["methods"], config["temperature"])
    make_lengths(config["draft_length"])
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
    needs = [name for name in names if name.partition("@")[0] in {"draft", "hf-assisted"}]
    needs += [name for name in names if name == "hf-assisted-tuned"]
    if needs and config["drafter"] is None:
        raise InvalidArgument(f"method {needs[0]!r} needs a draft model: give --drafter")
    models = _load(config, bool(needs))
    prompts, cut = fit_prompts(prompts, models, config["max_new_tokens"])
    made = Bench(
        models,
        [make_method(name, models, config["draft_length"]) for name in names],
        prompts,
        Writing(config["max_new_tokens"], config["temperature"], config["seed"]),
        config["repeats"],
        config["warmup"],
    )
    return made, cut


def _load(config: dict[str, Any], drafts: bool) -> "Models":
    from ..bench import Models
    from ..models import load

    settings = {"dtype": config["dtype"], "device": config["device"]}
    target = load(config["target"], **settings)
    return Models(target, load(config["drafter"], **settings) if drafts else None)


def _default_methods(drafter: str | None) -> list[str]:
    names = DEFAULT_METHODS.split(",")
    return names if drafter else [n for n in names if n not in {"draft", "hf-assisted"}]


def _split(given: Sequence[str] | None) -> list[str]:
    return [name.strip() for one in given or () for name in one.split(",") if name.strip()]


def _command(config: dict[str, Any]) -> str:
    words = ["outpace", "bench"]
    for name, value in config.items():
        if value is None:
            continue
        text = ",".join(value) if isinstance(value, list) else str(value)
        words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)


def _writable(name: str) -> Path:
    """Refuse a file that could not be written after minutes of measuring."""
    path = Path(name).expanduser().absolute()
    if path.is_dir():
        raise InvalidArgument(f"{name} is a folder: give the name of a file")
    if not path.parent.is_dir():
        raise InvalidArgument(f"{name}: the folder {path.parent} is not there: make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InvalidArgument(f"{name} cannot be written: give another place")
    return path


def _write(name: str, text: str) -> None:
    path = Path(name).expanduser()
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[str], None]]:
    """Show a bar with the time left on a terminal, elsewhere a line at every tenth."""
    screen = Screen(sys.stderr)
    if not screen.terminal:
        done = 0

        def line(what: str) -> None:
            nonlocal done
            done += 1
            if done * 10 // steps > (done - 1) * 10 // steps and done <= steps:
                print(f"{done} of {steps} texts ({visible(what)})", file=sys.stderr, flush=True)

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

        def advance(what: str) -> None:
            bar.update(task, advance=1, description=visible(what))

        yield advance


def _grid(head: Sequence[str], cells: Sequence[Sequence[str]], screen: Screen) -> Any:
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
