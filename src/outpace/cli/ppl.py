"""``outpace ppl``: how well a model predicts texts."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InvalidArgument, PromptError
from .files import writable, write_file
from .interrupt import INTERRUPTED
from .options import DTYPE, a_text, a_whole
from .progress import progress
from .text import visible

if TYPE_CHECKING:
    from ..bench.keeping import Notify
    from ..bench.perplexity import Perplexity
    from ..bench.pieces import Document
    from ..models import LanguageModel

STDIN = "-"
_SOON = 8
"""Windows that are read without a word on how far it is."""


def ppl(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Texts: .txt is one document, .jsonl has one a line, a JSON string or an object "
            'with "text", "page" or "prompt"; - is standard input; or wikitext, wikitext-valid, '
            "pg19, tinystories.",
            show_default=False,
        ),
    ],
    target: Annotated[str, a_text("MODEL", "Model folder or hub name.")] = "zoo:target",
    dtype: Annotated[str, a_text("NAME", DTYPE)] = "bfloat16",
    device: Annotated[str, a_text("NAME", "auto, cpu, cuda …")] = "auto",
    window: Annotated[
        int | None,
        a_whole("Tokens a forward reads; else the model's context, at most 2048 by token."),
    ] = None,
    stride: Annotated[
        int | None, a_whole("Tokens a window moves on by; else half the window.")
    ] = None,
    bos: Annotated[
        bool | None,
        typer.Option(
            "--bos/--no-bos",
            help="Put BOS (or EOS) before every document; else as the tokenizer does.",
        ),
    ] = None,
    convention: Annotated[
        str, a_text("NAME", "tokens, or lm-eval: as lm-evaluation-harness reads.")
    ] = "tokens",
    limit: Annotated[int | None, a_whole("Tokens scored at most, over all documents.")] = None,
    data_dir: Annotated[
        str | None, a_text("DIR", "Folder of the evaluation texts; else data/ in OUTPACE_DATA.")
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="OUT", help="Write all figures here.")
    ] = None,
    color: Annotated[bool, typer.Option(help="Colours, on a terminal.")] = True,
) -> int:
    """Measure the perplexity of texts: by token, word and byte."""
    from ..bench.perplexity import Scoring, check_limit
    from ..bench.windows import check_reading
    from ..models import load
    from .screen import Screen, loading

    how: dict[str, Any] = {
        "window": window,
        "stride": stride,
        "bos": bos,
        "convention": convention,
    }
    check_reading(window, stride, bos, convention)
    check_limit(limit)
    if json_file is not None:
        writable(json_file)
    documents = _documents(files, data_dir)
    with loading(f"loading {target}"):
        model = load(target, dtype=dtype, device=device)
        scoring = Scoring(model, documents, limit=limit, **how)
    with _told(scoring.steps) as notify:
        found = scoring.run(notify)
    lost = []
    if json_file is not None:
        lost = write_file(json_file, _as_json(found, model, files))
    _show(Screen(sys.stdout, color=color), found, model, len(documents))
    if lost:
        raise InvalidArgument(f"not written: {'; '.join(lost)}: give another place")
    if found.interrupted:
        print("outpace: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _documents(names: list[str], data_dir: str | None) -> "list[Document]":
    from ..bench.pieces import Document
    from ..bench.workloads import load_documents

    if names.count(STDIN) > 1:
        raise InvalidArgument("- is given twice, and standard input can be read once: give it once")
    folder = None if data_dir is None else Path(data_dir)
    documents = []
    for name in names:
        if name == STDIN:
            documents.append(Document("standard input", _standard_input()))
        else:
            found = load_documents(name, data_dir=folder)
            documents += [Document(one.name, one.text) for one in found]
    return documents


def _standard_input() -> str:
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError as error:
        raise PromptError("standard input cannot be read as text: give UTF-8") from error
    if not text.strip():
        raise PromptError("standard input is empty: give some text")
    return text


@contextmanager
def _told(steps: int) -> Iterator["Notify"]:
    """Say how far it is where that takes a while."""
    if steps <= _SOON:
        from ..bench.keeping import silent

        yield silent
        return
    with progress(steps, "windows") as notify:
        yield notify


def _as_json(found: "Perplexity", model: "LanguageModel", files: list[str]) -> str:
    from ..bench.environment import environment

    record = {
        "model": model.name,
        "precision": model.precision,
        "device": str(model.device),
        "files": files,
        **found.record(),
        "environment": environment(),
    }
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _show(screen: Any, found: "Perplexity", model: "LanguageModel", documents: int) -> None:
    """Print a line for every figure, and what must be known of them."""
    reading = found.reading
    rows = {
        "model": f"{model.name} ({model.precision}, {model.device})",
        "convention": reading.convention,
        "PPL": _with_interval(found),
        "tokens scored": f"{found.tokens}",
        "documents": f"{len(found.documents)} of {documents}"
        if len(found.documents) < documents
        else f"{documents}",
        "window": f"{reading.window}",
        "stride": f"{reading.stride}",
        "BOS": _token(model, reading.bos),
        "words": f"{found.words}",
        "word perplexity": _shown(found.word_perplexity),
        "bytes": f"{found.bytes}",
        "byte perplexity": _shown(found.byte_perplexity),
        "bits per byte": _shown(found.bits_per_byte),
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        style = "bold" if name == "PPL" else ""
        screen.console.print(f"{name:<{width}}  {visible(value)}", style=style)
    if reading.note is not None:
        screen.console.print(f"warning: {visible(reading.note)}", style="yellow")


def _with_interval(found: "Perplexity") -> str:
    low, high = found.interval.low, found.interval.high
    if low is None or high is None:
        return _shown(found.ppl)
    return f"{_shown(found.ppl)} (95 % {_shown(low)}–{_shown(high)} over documents)"


def _token(model: Any, bos: int | None) -> str:
    if bos is None:
        return "none: the first token of a document is not scored"
    return f"{model.tokenizer.convert_ids_to_tokens(bos)} ({bos})"


def _shown(figure: float) -> str:
    return f"{figure:.6g}"
