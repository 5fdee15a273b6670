"""``outpace precision``: what each number format costs in quality and gives in speed and memory."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InvalidArgument, OutpaceError
from .bench import names_in
from .options import DRAFTER_DTYPE, DTYPE, a_text, a_whole
from .study import run_study
from .tables import grid
from .warm import RUNTIME

if TYPE_CHECKING:
    from ..bench.studies import Study

DTYPES = "fp32,fp16,bf16,int8,int4"
OUT = "outpace-precision"
_SHARE = 0.7
"""Of the memory that is free, how much the copies of all precisions may take together."""


def precision(
    target: Annotated[str, a_text("MODEL", "Model folder or hub name.")] = "zoo:target",
    dtypes: Annotated[
        list[str] | None,
        a_text("NAMES", f"Separated by commas: {DTYPE[:-1]}. Default: {DTYPES}."),
    ] = None,
    drafter: Annotated[
        str | None, a_text("MODEL", "Draft with it too; zoo:target has its own.")
    ] = None,
    drafter_dtype: Annotated[str | None, a_text("NAME", DRAFTER_DTYPE)] = None,
    prompts: Annotated[
        list[str] | None,
        a_text(
            "NAMES", "Workloads or files to write on from, as of bench. Default: pg19,humaneval."
        ),
    ] = None,
    texts: Annotated[
        list[str] | None,
        a_text(
            "NAMES",
            "Workloads or files that quality is measured on. Default: --prompts where they are "
            "given, else wikitext,pg19,tinystories,humaneval.",
        ),
    ] = None,
    data_dir: Annotated[
        str | None, a_text("DIR", "Folder of the evaluation texts; else data/ in OUTPACE_DATA.")
    ] = None,
    limit: Annotated[int | None, a_whole("Prompts of each workload at most.")] = None,
    max_new_tokens: Annotated[int | None, a_whole("New tokens of every text.")] = None,
    device: Annotated[str, a_text("NAME", "auto, cpu, cuda …")] = "auto",
    runtime: Annotated[str, a_text("NAME", RUNTIME)] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="Few and short texts: minutes.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what is in --out: only what is missing.")
    ] = False,
    out: Annotated[str, a_text("DIR", "Folder of records, tables, the picture and a page.")] = OUT,
    color: Annotated[bool, typer.Option(help="Colours, on a terminal.")] = True,
) -> int:
    """Compare precisions of one target: speed in turn, memory and quality in a process each."""
    from ..bench.studies import Study
    from .screen import Screen

    asked = names_in(dtypes or [DTYPES])
    chosen = _that_run(asked, device)
    options: dict[str, Any] = {
        "target": target,
        "drafter": drafter,
        "drafter_dtype": drafter_dtype,
        "prompts": names_in(prompts) if prompts else None,
        "texts": names_in(texts or prompts or []) or None,
        "data_dir": data_dir,
        "limit": limit,
        "max_new_tokens": max_new_tokens,
        "device": device,
        "runtime": runtime,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if _too_large(target, chosen, device):
        given["apart"] = True
        print(
            "outpace: the copies of all precisions do not fit beside each other: they are measured "
            "one after another, so compare what they share a baseline with",
            file=sys.stderr,
        )
    axes = {"precision": chosen}
    study = Study.read("precision", quick=quick, options=given, axes=axes)
    folder = Path(out).expanduser()
    code = run_study(study, folder, resume)
    _show(study, folder, Screen(sys.stdout, color=color))
    return code


def _that_run(asked: Sequence[str], device: str) -> list[str]:
    """Return the precisions that there are here, and say why others are left out.

    Raises:
        UnknownName: no such precision.
        InvalidArgument: none of them is there.
    """
    from ..bench.precisions import canonical
    from ..models.load import check_arithmetic, resolve_device, resolve_dtype
    from ..models.precision import PRECISIONS, check_precision

    place = resolve_device(device)
    found: list[str] = []
    refused: list[OutpaceError] = []
    for name in asked:
        dtype = canonical(name)
        try:
            if dtype in PRECISIONS:
                check_precision(dtype, place)
            else:
                check_arithmetic(resolve_dtype(dtype), place)
        except OutpaceError as error:
            refused.append(error)
        else:
            found += [dtype] if dtype not in found else []
    if not found:
        if refused:
            raise refused[0]
        raise InvalidArgument(f"no dtypes: give one or more, as in {DTYPES}")
    for why in refused:
        print(f"outpace: left out: {why}", file=sys.stderr)
    return found


def _too_large(target: str, dtypes: Sequence[str], device: str) -> bool:
    """Return whether copies in all precisions are more than memory holds."""
    from ..bench.memory import available
    from ..bench.studies.precisions import WIDTHS
    from ..models.load import parameters_of, resolve_device

    needed = parameters_of(target) * sum(WIDTHS[dtype] for dtype in dtypes) / 8
    return needed > _SHARE * available(resolve_device(device))


def _show(study: "Study", folder: Path, screen: Any) -> None:
    """Show the tables of what was measured."""
    from ..bench.studies.journal import Journal
    from ..bench.studies.outcome import outcomes, rows
    from ..bench.studies.tables import plans

    found = outcomes(study, Journal(folder).read())
    if not screen.terminal:
        screen.console.width = 200  # nothing is gained by folding lines for a file
    for part in study.parts:
        members = list(rows(found, part.name))
        for plan in plans(part):
            table = plan.table(members, part)
            if table.rows:
                screen.console.print(f"{table.title}:")
                screen.console.print(grid(table.head, table.rows, screen))
