"""Prompts from the Hugging Face hub, from ModelScope, or from a folder that ``datasets`` reads."""

import importlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..calls import Call, parse_call
from ..errors import PromptError, UnknownName
from ..registry import unknown_among
from .published import CATEGORIES, articles, books, problems, questions
from .texts import Found, Row, as_turns, spread, told_as

HUBS = ("hub:", "modelscope:")
COLUMNS = ("prompt", "text", "turns", "question", "instruction", "content")
"""Where the prompt of a row is looked for, in this order."""
PASSAGES = ("text", "content")
"""Columns with running text, of which the beginning is used; others are prompts, whole."""
SPLITS = ("test", "validation", "train")
"""The first of these that there is is read where no split is named."""
ROWS = 1000
"""Rows that are read of a set nobody here knows, to spread the prompts over."""
CHARACTERS = 20_000_000
"""… or so much text, where its rows are books."""
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_EXAMPLE = "hub:ORG/NAME(config=main, split=test, column=prompt)"


@dataclass(frozen=True, slots=True)
class Source:
    """What is asked of ``datasets``.

    Attributes:
        place: repository or folder.
        config: of it; None is the only one.
        split: None is the first of :data:`SPLITS` that there is, or else the first of all.
        keep: download all of it into the cache; otherwise it is streamed, as far as it is used.
    """

    place: str
    config: str | None = None
    split: str | None = None
    keep: bool = False


Arrange = Callable[[Iterator[Row], int], Iterable[Found]]
"""Makes prompts of the rows of a set, as many as are asked for."""


def from_hub(name: str, limit: int) -> tuple[str, list[Found]]:
    """Return what to call a set, and its prompts, spread evenly.

    ``hub:NAME`` is one of :data:`SETS`, arranged as the same set in the data folder.
    ``hub:ORG/NAME`` is any set of the hub, ``hub:FOLDER`` a folder with JSON Lines, Parquet, CSV or
    text files: the prompts are spread over its first 1,000 rows. ``modelscope:ORG/NAME`` is
    downloaded whole and read like a folder. Settings stand in parentheses: ``config``, ``split``
    and, except where the set is known, ``column``.

    Args:
        name: as above.
        limit: prompts at most.

    Raises:
        PromptError: a package is missing, or the set cannot be had or has no prompts.
        UnknownName: no set that is known, no folder, and no name that a hub could have.
        InvalidArgument: settings that cannot be read.
    """
    hub, _, rest = name.partition(":")
    whole = Path(rest).expanduser().is_dir()  # its name may hold parentheses
    place, bracket, settings = (rest, "", "") if whole else rest.partition("(")
    place = place.strip()
    given = parse_call(f"{hub}{bracket}{settings}", f"prompts {name!r}", _EXAMPLE)
    call = replace(given, name=f"{hub}:{place}")
    folder = Path(place).expanduser()
    if hub == "hub" and place in SETS:
        return name, _known(name, call, limit)
    if hub == "hub" and place and folder.is_dir():
        found = _any(name, call, limit, str(folder), _FOLDER)
        return f"{hub}:{folder.resolve().name}{bracket}{settings}", found
    _check(hub, place, name)
    if hub == "hub":
        return name, _any(name, call, limit, place, _hub_remedy())
    call.settings(_any_settings)  # refused before anything is downloaded
    return name, _any(name, call, limit, _downloaded(place, name), _FOLDER)


def _known(name: str, call: Call, limit: int) -> list[Found]:
    source, arrange = SETS[call.name.removeprefix("hub:")]
    source = replace(source, **call.settings(_known_settings))
    with told_as(f"prompts {name!r}", _hub_remedy()):
        return list(arrange(_rows(source, name), limit))


def _any(name: str, call: Call, limit: int, place: str, remedy: str) -> list[Found]:
    settings = call.settings(_any_settings)
    column = settings.pop("column", None)
    with told_as(f"prompts {name!r}", remedy):
        rows = _rows(Source(place, **settings), name)
        return spread(list(_texts(rows, limit, column, name, Path(place).name)), limit)


def _known_settings(config: str = "", split: str = "") -> None:
    """Tell what can be set of a set that is known."""


def _any_settings(config: str = "", split: str = "", column: str = "") -> None:
    """Tell what can be set of any other."""


_FOLDER = (
    "give a folder with .jsonl, .parquet, .csv or .txt files, and a config= and split= that it has"
)


def _hub_remedy() -> str:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_HUB_OFFLINE is set, so the hub is not asked: unset it, or give hub:FOLDER"
    return (
        "check the name, config=, split= and the connection (a gated set needs `hf auth login`), "
        "or give hub:FOLDER"
    )


def _check(hub: str, place: str, name: str) -> None:
    """Refuse what no hub can have, without asking it.

    Raises:
        UnknownName: neither ORG/NAME nor anything else that is known.
    """
    if _REPOSITORY.fullmatch(place):
        return
    if hub == "modelscope":
        raise UnknownName(f"prompts {name!r}: give modelscope:ORG/NAME")
    if place.partition(":")[0] == "spec-bench":
        raise UnknownName(
            f"prompts {name!r}: the hub has no usual copy of Spec-Bench: give its file a place in "
            "the data folder and --prompts spec-bench, or give hub:ORG/NAME or hub:FOLDER"
        )
    kept = [one for one in SETS if ":" not in one] if ":" not in place else list(SETS)
    message = unknown_among("set of the hub", place, kept)
    raise UnknownName(f"{message}; or give hub:ORG/NAME or a folder that exists, hub:FOLDER")


def _package(package: str, name: str) -> Any:
    """Import an optional package.

    Raises:
        PromptError: it cannot be imported.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise PromptError(
            f'prompts {name!r} need the package {package}: pip install "outpace[{package}]"'
        ) from error


def _downloaded(place: str, name: str) -> str:
    """Return the folder a set of ModelScope was downloaded to."""
    _package("datasets", name)  # missing, nothing could read what is downloaded
    modelscope = _package("modelscope", name)
    remedy = "check the name and the connection, or give hub:FOLDER"
    with told_as(f"prompts {name!r}", remedy):
        return str(modelscope.dataset_snapshot_download(place))


def _rows(source: Source, name: str) -> Iterator[Row]:
    """Yield the rows of a split."""
    datasets = _package("datasets", name)
    settings: dict[str, Any] = {"split": source.split, "streaming": not source.keep}
    if _only_texts(Path(source.place)):
        settings["sample_by"] = "document"  # else each line is a row
    loaded = datasets.load_dataset(source.place, source.config, **settings)
    if source.split is None:
        loaded = loaded[next((one for one in SPLITS if one in loaded), next(iter(loaded)))]
    yield from loaded


def _only_texts(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    kinds = {file.suffix for file in folder.rglob("*") if file.is_file()}
    return ".txt" in kinds and not kinds & {".jsonl", ".json", ".parquet", ".csv", ".arrow"}


def _texts(
    rows: Iterable[Row], limit: int, column: str | None, name: str, title: str
) -> Iterator[Found]:
    """Yield what a set says whose form nobody here knows."""
    characters = number = 0
    for number, row in enumerate(itertools.islice(rows, max(limit, ROWS)), start=1):
        if column is None:
            column = next((one for one in COLUMNS if one in row), None)
        if column not in row:
            what = f"no column {column!r}" if column else "no column that is known to hold prompts"
            raise PromptError(f"prompts {name!r}: {what}: give column= one of {', '.join(row)}")
        said = row[column]
        if said is None or not len(said if isinstance(said, list) else str(said).strip()):
            continue
        turns = as_turns(said)
        if turns is None:
            raise PromptError(
                f"prompts {name!r}, row {number}: {column!r} is neither a text nor a list of texts:"
                f" give column= one of {', '.join(row)}"
            )
        yield Found(f"{title}:{number}", turns[0], turns[1:], passage=column in PASSAGES)
        characters += len(turns[0])
        if number >= limit and characters >= CHARACTERS:
            return
    if not number:
        raise PromptError(f"prompts {name!r}: there are no rows: give a set or split that has some")


def _joined(rows: Iterator[Row], limit: int) -> Iterable[Found]:
    """Arrange WikiText, whose rows on the hub are lines, and empty where a line is blank."""
    return articles("".join(row["text"] or " \n" for row in rows), limit)


def _books(rows: Iterator[Row], limit: int) -> Iterable[Found]:
    # some copies end their lines as their files did: no paragraph would be found
    texts = ((row["short_book_title"], row["text"].replace("\r\n", "\n")) for row in rows)
    return books(texts, limit)


def _stories(rows: Iterator[Row], limit: int) -> Iterable[Found]:
    return spread(list(_texts(rows, limit, "text", "hub:tinystories", "TinyStories")), limit)


def _mt_bench(only: str | None = None) -> Arrange:
    def arrange(rows: Iterator[Row], limit: int) -> Iterable[Found]:
        renamed = (
            {"category": row["category"], "question_id": row["prompt_id"], "turns": row["prompt"]}
            for row in rows
        )
        return questions(renamed, limit, only=only)

    return arrange


_WIKITEXT = Source("Salesforce/wikitext", "wikitext-2-raw-v1", "test", keep=True)
_MT_BENCH = Source("HuggingFaceH4/mt_bench_prompts", None, "train", keep=True)
SETS: Mapping[str, tuple[Source, Arrange]] = {
    "wikitext": (_WIKITEXT, _joined),
    "wikitext-valid": (replace(_WIKITEXT, split="validation"), _joined),
    "pg19": (Source("emozilla/pg19", None, "test"), _books),
    "tinystories": (Source("roneneldan/TinyStories", None, "validation"), _stories),
    "humaneval": (Source("openai/openai_humaneval", None, "test", keep=True), problems),
    "mt-bench": (_MT_BENCH, _mt_bench()),
    **{f"mt-bench:{one}": (_MT_BENCH, _mt_bench(one)) for one in CATEGORIES},
}
"""Workload → where the hub has it, and how its rows are arranged."""
