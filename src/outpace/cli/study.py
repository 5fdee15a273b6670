"""``outpace study`` and ``outpace report``: tables of many settings, and what they say."""

import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InvalidArgument, OutpaceError
from .bench import names_in
from .options import DRAFTER_DTYPE, a_text, a_whole
from .progress import progress
from .text import visible
from .warm import run_as

if TYPE_CHECKING:
    from ..bench.studies import Study
    from ..bench.studies.journal import Journal

OUT = "outpace-studies"
_OPTIONS = (
    "target",
    "drafter",
    "dtype",
    "drafter_dtype",
    "device",
    "runtime",
    "prompts",
    "texts",
    "data_dir",
    "limit",
)


def study(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Of a study, a file NAME.toml, or all; without it, all are listed."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The short form: minutes.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what is in --out: only what is missing.")
    ] = False,
    out: Annotated[
        str | None, a_text("DIR", f"Folder of records and results; else {OUT}/NAME.")
    ] = None,
    target: Annotated[str | None, a_text("MODEL", "Instead of that of the study.")] = None,
    drafter: Annotated[str | None, a_text("MODEL", "Instead of that of the study.")] = None,
    dtype: Annotated[str | None, a_text("NAME", "Instead of that of the study.")] = None,
    drafter_dtype: Annotated[str | None, a_text("NAME", DRAFTER_DTYPE)] = None,
    device: Annotated[str | None, a_text("NAME", "Instead of that of the study.")] = None,
    runtime: Annotated[
        str | None, a_text("NAME", "auto, eager, graph or compile, instead of the study's.")
    ] = None,
    prompts: Annotated[
        list[str] | None, a_text("NAMES", "Workloads or files, instead of those of the study.")
    ] = None,
    texts: Annotated[
        list[str] | None,
        a_text("NAMES", "What precisions and policies read, instead of the study's."),
    ] = None,
    data_dir: Annotated[
        str | None, a_text("DIR", "Folder of the evaluation texts; else data/ in OUTPACE_DATA.")
    ] = None,
    limit: Annotated[int | None, a_whole("Prompts of each workload at most.")] = None,
    axis: Annotated[
        list[str] | None,
        a_text("NAME=VALUES", "Values of an axis instead of the study's; may be repeated."),
    ] = None,
) -> int:
    """Run a study: settings crossed with methods, tables and pictures of them, one page."""
    from ..bench.studies import Study, pair_names, study_names

    if name is None:
        for known in map(Study.read, [*study_names(), *pair_names()]):
            weights = "" if known.name in study_names() else " (its weights are not embedded)"
            print(f"{known.name:18} {known.title}{weights}")
        return 0
    asked = {one: context.params[one] for one in _OPTIONS}
    given = {one: value for one, value in asked.items() if value not in (None, ())}
    given |= {one: names_in(given[one]) for one in ("prompts", "texts") if one in given}
    names = study_names() if name == "all" else [name]
    axes = dict(_axis(one) for one in axis or ())
    studies = [Study.read(one, quick=quick, options=given, axes=axes) for one in names]
    root = Path(OUT if out is None else out).expanduser()
    if len(studies) == 1:
        return run_study(studies[0], root if out is not None else root / studies[0].name, resume)
    worst = 0
    for one in studies:
        print(f"== {one.name}", file=sys.stderr, flush=True)
        try:
            worst = max(worst, run_study(one, root / one.name, resume))
        except OutpaceError as error:  # the others can be measured all the same
            print(f"outpace: {error}", file=sys.stderr, flush=True)
            worst = 2
    return worst


def report(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The folder of a study.")],
) -> int:
    """Draw tables, pictures and the page of a study again, from its records alone."""
    from ..bench.studies.journal import Journal
    from ..bench.studies.run import planned

    journal = Journal(Path(folder).expanduser()).read()
    _say_repaired(journal)
    _write(planned(journal), journal, Path(folder).expanduser())
    return 0


def run_study(study: "Study", folder: Path, resume: bool) -> int:
    """Run one study; return the exit code."""
    from ..bench.studies.journal import FILE, Journal
    from ..bench.studies.run import StudyRun, planned

    journal = Journal(folder)
    if journal.path.exists():
        journal.read()
        if not resume and journal.holds_figures:
            raise InvalidArgument(
                f"{folder} holds the records of a study already: give --resume to go on with it, "
                "or another --out"
            )
        _say_repaired(journal)
        before = planned(journal) if journal.holds_figures else study  # or nothing is lost
        same = (before.name, before.quick, dict(before.options), dict(before.axes))
        if same != (study.name, study.quick, dict(study.options), dict(study.axes)):
            form = "the quick form" if before.quick else "the full form"
            options = {**before.options, **before.axes}
            raise InvalidArgument(
                f"{folder} holds {form} of {before.name} with the options "
                f"{options or 'of its file'}: give the same, or another --out"
            )
    elif folder.exists() and not folder.is_dir():
        raise InvalidArgument(f"{folder} is no folder: give another --out")
    _check_folder(folder, FILE)
    with progress(0) as notify:
        run = StudyRun(
            study,
            command=_command(study, folder),
            prepare=run_as,
            notify=notify,
            said=lambda what: print(what, file=sys.stderr, flush=True),
        )
        try:
            whole = run.run(journal)
        except (KeyboardInterrupt, OutpaceError):
            if journal.holds_figures:
                _write(study, journal, folder)
            raise
    right = _write(study, journal, folder)
    return 0 if whole and right else 1


def _write(study: "Study", journal: "Journal", folder: Path) -> bool:
    """Write all results; return whether every difference between texts is explained."""
    from ..bench.report import is_wrong
    from ..bench.studies.outcome import outcomes
    from ..bench.studies.results import PAGE, TEXT, warnings, write_results
    from ..bench.studies.verdict import verdict

    found = outcomes(study, journal)
    files = write_results(study, journal, found, folder)
    for sentence in verdict(study, found):
        print(sentence)
    for note in warnings(journal, found):
        print(f"warning: {visible(note)}")
    print(f"{len(files)} files in {folder}: {PAGE}, {TEXT}, tables and pictures")
    return not any(is_wrong(one.record) for one in found)


def _axis(text: str) -> tuple[str, list[Any]]:
    """Return name and values of ``NAME=VALUE,VALUE``, numbers as numbers."""
    name, equals, values = text.partition("=")
    found = [_value(one) for one in names_in([values])]
    if not name or not equals or not found:
        raise InvalidArgument(f"--axis {text!r}: give a name and values, as in K=2,4,6")
    return name.strip(), found


def _value(text: str) -> Any:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _say_repaired(journal: "Journal") -> None:
    if journal.repaired:
        print(
            f"outpace: {journal.path}: its last line was cut short, as a crash leaves it: it is "
            "left out",
            file=sys.stderr,
        )


def _check_folder(folder: Path, name: str) -> None:
    """Refuse a folder that cannot be written before minutes of measuring."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("ab"):
            pass
    except OSError as error:
        raise InvalidArgument(
            f"{folder} cannot be written ({error.strerror}): give another --out"
        ) from error


def _command(study: "Study", folder: Path) -> str:
    words = ["outpace", "study", study.source]
    words += ["--quick"] if study.quick else []
    options: dict[str, Any] = dict(study.options)
    for name, value in options.items():
        text = ",".join(value) if isinstance(value, list) else str(value)
        words += [f"--{name.replace('_', '-')}", text]
    for name, values in study.axes.items():
        words += ["--axis", f"{name}={','.join(map(str, values))}"]
    return shlex.join([*words, "--out", str(folder)])
