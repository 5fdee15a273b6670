"""``outpace heads``: what each attention head looks at."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InvalidArgument, PromptError
from .files import writable, write_file
from .interrupt import INTERRUPTED
from .options import DTYPE, a_text, a_whole
from .progress import progress
from .tables import grid
from .text import visible

if TYPE_CHECKING:
    from ..bench.heads import Heads
    from ..bench.pieces import Document
    from ..models import LanguageModel

TEXTS = ("wikitext", "pg19")
"""What is read where nothing is named, as far as it is there."""
RECORD = "heads.json"


def heads(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="Texts: .txt is one document, .jsonl has one a line, a JSON string or an object "
            'with "text", "page" or "prompt"; or wikitext, wikitext-valid, pg19. '
            f"Default: {', '.join(TEXTS)}.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[str, a_text("MODEL", "Model folder or hub name.")] = "zoo:target",
    dtype: Annotated[str, a_text("NAME", DTYPE)] = "bfloat16",
    device: Annotated[str, a_text("NAME", "auto, cpu, cuda …")] = "auto",
    tokens: Annotated[
        int | None,
        a_whole("Tokens of a text at most; else the model's context, at most 2048."),
    ] = None,
    chunk: Annotated[
        int, a_whole("Rows at a time: weights take 4 · heads · chunk · tokens bytes.")
    ] = 128,
    limit: Annotated[int, a_whole("Texts of each file or set at most.")] = 4,
    data_dir: Annotated[
        str | None, a_text("DIR", "Folder of the evaluation texts; else data/ in OUTPACE_DATA.")
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="OUT", help="Write all figures here.")
    ] = None,
    out: Annotated[
        str | None, a_text("DIR", f"Write {RECORD} and heat maps (SVG, PNG) into this folder.")
    ] = None,
    color: Annotated[bool, typer.Option(help="Colours, on a terminal.")] = True,
) -> int:
    """Measure what each attention head looks at, and how much of the cache it needs."""
    from ..bench.heads.analysis import Analysis, check_reading
    from ..models import load
    from .screen import Screen, loading

    check_reading(tokens, chunk, limit)
    if json_file is not None:
        writable(json_file)
    folder = None if out is None else _folder(out)
    sources = _sources(files, data_dir)
    with loading(f"loading {target}"):
        model = load(target, dtype=dtype, device=device, runtime="eager")
        analysis = Analysis(model, sources, tokens=tokens, chunk=chunk, limit=limit)
    with progress(analysis.steps, "chunks") as notify:
        found = analysis.run(notify)
    _show(Screen(sys.stdout, color=color), found, model)
    _write(found, model, json_file, folder)
    if found.interrupted:
        print("outpace: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _folder(name: str) -> Path:
    """Return the folder to write into, made before minutes of measuring."""
    folder = Path(name).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable(str(folder / RECORD))
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"{name} cannot be written into: give another folder") from error
    return folder


def _sources(names: Sequence[str] | None, data_dir: str | None) -> "Mapping[str, list[Document]]":
    """Return texts by where they are from; of those nobody named, what is there."""
    from ..bench.pieces import Document
    from ..bench.workloads import load_documents

    folder = None if data_dir is None else Path(data_dir)
    sources: dict[str, list[Document]] = {}
    for name in names or TEXTS:
        try:
            found = load_documents(name, data_dir=folder)
        except PromptError as error:
            if names:
                raise
            print(f"outpace: left out: {visible(str(error))}", file=sys.stderr)
            continue
        sources[name] = [Document(one.name, one.text) for one in found]
    if not sources:
        raise PromptError(
            f"none of the evaluation texts is there ({', '.join(TEXTS)}): give a .txt or .jsonl "
            "file, or --data-dir"
        )
    return sources


def _write(found: "Heads", model: "LanguageModel", json_file: str | None, out: Path | None) -> None:
    """Write what was asked for.

    Raises:
        InvalidArgument: a file could not be written.
    """
    from ..bench.environment import environment

    record = {**found.record(), "device": str(model.device), "environment": environment()}
    text = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
    lost = [] if json_file is None else write_file(json_file, text)
    if out is not None:
        lost += _written(out, {RECORD: text})  # before pictures, which are made of it
        from ..bench.heads.maps import files

        lost += _written(out, files(found))
    if lost:
        raise InvalidArgument(f"not written: {'; '.join(lost)}: give another place")


def _written(folder: Path, contents: "Mapping[str, str | bytes]") -> list[str]:
    """Write files; return which could not be written, and why."""
    from ..folders import write_whole

    lost = []
    for name, content in contents.items():
        try:
            write_whole(folder / name, content)
        except OSError as error:
            lost.append(f"{folder / name} ({error.strerror})")
    return lost


def _show(screen: Any, found: "Heads", model: "LanguageModel") -> None:
    """Print classes, a line a layer, and what must be known."""
    from ..bench.heads import CLASSES, classify

    if not screen.terminal:
        screen.console.width = 200  # nothing is gained by folding lines for a file
    counts = Counter(classify(head) for layer in found.layers for head in layer)
    kept = [one for layer in found.budgets.layers for one in layer]
    kinds = Counter(one.kind if one.window is None else f"{one.kind} {one.window}" for one in kept)
    rows = {
        "model": f"{found.model} ({found.precision}, {model.device})",
        "texts": f"{len(found.texts)}",
        "rows measured": f"{found.rows}",
        "classes": ", ".join(f"{counts[name]} {name}" for name in CLASSES if counts[name]),
        "suggested": ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()),
        "share to keep": f"{sum(one.share for one in kept) / len(kept):.3f} of the cache, "
        f"{min(one.share for one in kept):.3f} to {max(one.share for one in kept):.3f}",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        screen.console.print(f"{name:<{width}}  {visible(value)}")
    screen.console.print(grid(_HEAD, _layers(found), screen))
    if found.interrupted:
        screen.console.print("warning: interrupted, texts are missing", style="yellow")
    for line in (*found.left_out, *([found.note] if found.note else [])):
        screen.console.print(f"warning: {visible(line)}", style="yellow")


_HEAD = ("layer", "entropy", "of max", "maximum", "sinks", "recent", "local", "global", "distance")
_COLUMNS = ("entropy", "relative entropy", "maximum", "sinks", "recent", "local", "global")


def _layers(found: "Heads") -> list[list[str]]:
    """Return a row a layer: means over its heads."""
    from ..bench.heads.head import MEASURES

    cells = []
    for number, layer in enumerate(found.layers):
        means = [sum(map(MEASURES[name], layer)) / len(layer) for name in (*_COLUMNS, "distance")]
        cells.append([str(number), *(f"{mean:.3f}" for mean in means)])
    return cells
