"""Readers of published evaluation texts, as their authors publish them.

Each takes what was read and how many prompts are asked for, and spreads these evenly. The files in
the data folder and the same sets from the hub go through the same readers.
"""

import gzip
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from .texts import Found, Row, as_turns, lines, read, spread

TASKS = ("chat", "translation", "summarization", "qa", "math_reasoning", "rag")
"""Of Spec-Bench, 80 questions each (arXiv 2401.07851)."""
CATEGORIES = (
    "writing",
    "roleplay",
    "reasoning",
    "math",
    "coding",
    "extraction",
    "stem",
    "humanities",
)
"""Of MT-bench (arXiv 2306.05685); in Spec-Bench all of them are the task ``chat``."""

_HEADING = re.compile(r"^ = [^=].* = $", re.MULTILINE)
_STORY = re.compile(r"^Once upon a time", re.MULTILINE)


def articles(text: str, limit: int) -> Iterator[Found]:
    """Yield articles of WikiText, headings and all; very short ones are left out."""
    long = [one for one in whole_articles(text) if len(one.text) > 2000]
    for article in spread(long, limit):
        yield article._replace(passage=True)


def whole_articles(text: str) -> Iterator[Found]:
    """Yield all articles of WikiText, headings and all."""
    for article in _parts(text, _HEADING):
        yield Found(article.split("=")[1].strip(), article.strip(" "))


def books(named: Iterable[tuple[str, str]], limit: int) -> Iterator[Found]:
    """Yield passages in turn from each book, evenly spaced, each from a paragraph's beginning."""
    texts = list(itertools.islice(named, limit))
    for number in range(limit if texts else 0):
        name, text = texts[number % len(texts)]
        row, rows = number // len(texts), -(-limit // len(texts))
        place = len(text) * (row + 1) // (rows + 1)
        paragraph = text.find("\n\n", place)
        start = place if paragraph < 0 else paragraph + 2
        yield Found(f"{name}@{start}", text[start:], passage=True)


def stories(name: str, text: str, limit: int) -> Iterator[Found]:
    """Yield stories of one text that has no mark between them, each from its beginning."""
    for start in spread([match.start() for match in _STORY.finditer(text)], limit):
        yield Found(f"{name}@{start}", text[start:], passage=True)


def whole_stories(name: str, text: str) -> Iterator[Found]:
    """Yield the stories of one text, each as far as the next one."""
    for number, story in enumerate(_parts(text, _STORY), start=1):
        yield Found(f"{name}:{number}", story.strip())


def problems(rows: Iterable[Row], limit: int) -> Iterator[Found]:
    """Yield problems of HumanEval, whole."""
    yield from spread([Found(str(row["task_id"]), str(row["prompt"])) for row in rows], limit)


def questions(
    rows: Iterable[Row],
    limit: int,
    *,
    group: Callable[[str], str] = str,
    only: str | None = None,
    later: bool = True,
) -> Iterator[Found]:
    """Yield questions in turn from each group, as many from one as from any other.

    Args:
        rows: with ``category``, ``question_id`` and ``turns``.
        limit: how many at most.
        group: of a category.
        only: the group or category to take; None takes all.
        later: hand over the turns after the first too.

    Raises:
        ValueError: a row whose turns are no texts.
    """
    groups: dict[str, list[Found]] = {}
    for row in rows:
        category = str(row["category"])
        kind, name = group(category), f"{category}/{row['question_id']}"
        if only not in {None, kind, category}:
            continue
        turns = as_turns(row["turns"])
        if turns is None:
            raise ValueError(f"the turns of {name} are no texts")
        found = Found(name, turns[0], turns[1:] if later else ())
        # one group is split further: its categories alike
        groups.setdefault(category if only == kind else kind, []).append(found)
    each = -(-limit // max(1, len(groups)))
    taken = itertools.zip_longest(*(spread(of_one, each) for of_one in groups.values()))
    yield from [one for some in taken for one in some if one is not None][:limit]


def task(category: str) -> str:
    """Return the task of Spec-Bench that a category of its file belongs to."""
    return "chat" if category in CATEGORIES else category


def _parts(text: str, beginning: re.Pattern[str]) -> list[str]:
    starts = [match.start() for match in beginning.finditer(text)]
    return [text[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]


def _wikitext(file: Path, limit: int) -> Iterator[Found]:
    return articles(read(file), limit)


def _pg19(folder: Path, limit: int) -> Iterator[Found]:
    return books(((file.stem, read(file)) for file in sorted(folder.glob("*.txt"))), limit)


def _humaneval(file: Path, limit: int) -> Iterator[Found]:
    with gzip.open(file, "rt", encoding="utf-8") as rows:
        yield from problems(map(json.loads, rows), limit)


def _tinystories(file: Path, limit: int) -> Iterator[Found]:
    return stories(file.stem, read(file), limit)


def _spec_bench(only: str | None = None) -> "Reader":
    later = only is not None
    return lambda file, limit: questions(_rows(file), limit, group=task, only=only, later=later)


def _mt_bench(only: str | None = None) -> "Reader":
    return lambda file, limit: questions(_rows(file), limit, only=only)


def _rows(file: Path) -> Iterator[Row]:
    return (json.loads(line) for line in lines(read(file)) if line.strip())


Reader = Callable[[Path, int], Iterator[Found]]
_SPEC_BENCH = "spec_bench/question.jsonl"
_MT_BENCH = "mt_bench/question.jsonl"
PUBLISHED: Mapping[str, tuple[str, Reader]] = {
    "wikitext": ("wikitext-2-raw/wiki.test.raw", _wikitext),
    "wikitext-valid": ("wikitext-2-raw/wiki.valid.raw", _wikitext),
    "pg19": ("pg19_test_books", _pg19),
    "tinystories": ("tinystories/tinystories_valid_sample.txt", _tinystories),
    "humaneval": ("humaneval/HumanEval.jsonl.gz", _humaneval),
    "spec-bench": (_SPEC_BENCH, _spec_bench()),
    **{f"spec-bench:{one}": (_SPEC_BENCH, _spec_bench(one)) for one in TASKS},
    "mt-bench": (_MT_BENCH, _mt_bench()),
    **{f"mt-bench:{one}": (_MT_BENCH, _mt_bench(one)) for one in CATEGORIES},
}
"""Name → place in the data folder, and how it is read."""


def _all_articles(file: Path) -> Iterator[Found]:
    return whole_articles(read(file))


def _all_books(folder: Path) -> Iterator[Found]:
    return (Found(file.stem, read(file)) for file in sorted(folder.glob("*.txt")))


def _all_stories(file: Path) -> Iterator[Found]:
    return whole_stories(file.stem, read(file))


DOCUMENTS: Mapping[str, Callable[[Path], Iterator[Found]]] = {
    "wikitext": _all_articles,
    "wikitext-valid": _all_articles,
    "pg19": _all_books,
    "tinystories": _all_stories,
}
"""Those of :data:`PUBLISHED` that are texts rather than questions → how to read them whole."""
