"""Prompts: public evaluation texts as they lie in the data folder, or a file of one's own."""

import gzip
import hashlib
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from ..data import VARIABLE, data_root
from ..errors import PromptError, UnknownName

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BenchPrompt:
    """One prompt: where it is from, and the text every method continues.

    Attributes:
        workload: its name, or that of the file.
        name: of the text in it.
        text: the prompt, or a longer text that begins with it.
        tokens: cut ``text`` to so many first tokens; None where it is the prompt itself.
    """

    workload: str
    name: str
    text: str
    tokens: int | None = None
    turns: tuple[str, ...] = ()
    seed: int = 0


def load_prompts(
    names: Sequence[str],
    *,
    data_dir: Path | None = None,
    limit: int = 8,
    prompt_tokens: int = 128,
) -> list[BenchPrompt]:
    """Return the prompts of one or several workloads in turn, spread evenly over each.

    Args:
        names: of :data:`WORKLOADS`, or files: ``.txt`` is one prompt, ``.jsonl`` has one a line
            (a string, or an object with ``prompt``).
        data_dir: folder of the evaluation texts; None is ``data`` in the data root.
        limit: prompts of each workload at most.
        prompt_tokens: length of a passage of a book or an article.

    Raises:
        PromptError: a text that is not there, or cannot be read.
        UnknownName: neither a workload nor a file.
    """
    if limit < 1:
        raise PromptError(f"a limit of {limit} prompts: give 1 or more")
    if prompt_tokens < 1:
        raise PromptError(f"prompts of {prompt_tokens} tokens: give 1 or more")
    workloads: list[list[BenchPrompt]] = []
    for name in names:
        prompts: list[BenchPrompt] = []
        workloads.append(prompts)
        if name in WORKLOADS:
            where, read = WORKLOADS[name]
            passages = read(_place(data_dir, where, name), limit)
            for label, text in passages:
                if name in _PASSAGES:
                    text = text[: _LONGEST_TOKEN * prompt_tokens]
                    prompts.append(BenchPrompt(name, label, text, prompt_tokens))
                else:
                    prompts.append(BenchPrompt(name, label, text))
        else:
            path = Path(name).expanduser()
            lines = [BenchPrompt(path.name, *one) for one in _file(path, name)]
            prompts += spread(lines, limit)
    # in turn from each workload, so that a run that is cut short has some of all
    rows = itertools.zip_longest(*workloads)
    prompts = [prompt for row in rows for prompt in row if prompt is not None]
    if not prompts:
        where = f" in {', '.join(names)}" if names else "s"
        raise PromptError(f"no prompt{where}: give a file with text")
    return prompts


def prompts_hash(prompts: Sequence[BenchPrompt]) -> str:
    """Return a hash that is equal exactly where all texts are."""
    digest = hashlib.sha256()
    for prompt in prompts:
        text = prompt.text.encode()
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


def _books(folder: Path, limit: int) -> Iterator[tuple[str, str]]:
    """Passages in turn from each book, evenly spaced, each from the beginning of a paragraph."""
    files = sorted(folder.glob("*.txt"))
    for number in range(limit if files else 0):
        file = files[number % len(files)]
        row, rows = number // len(files), -(-limit // len(files))
        text = _read(file)
        start = text.find("\n\n", len(text) * (row + 1) // (rows + 1)) + 2
        yield f"{file.stem}@{start}", text[start:]


_HEADING = re.compile(r"^ = [^=].* = $", re.MULTILINE)


def _articles(file: Path, limit: int) -> Iterator[tuple[str, str]]:
    text = _read(file)
    starts = [match.start() for match in _HEADING.finditer(text)]
    articles = [text[a:b].strip(" ") for a, b in zip(starts, [*starts[1:], None], strict=True)]
    for article in spread([a for a in articles if len(a) > 2000], limit):
        yield article.split("=")[1].strip(), article


def _problems(file: Path, limit: int) -> Iterator[tuple[str, str]]:
    with _published(file), gzip.open(file, "rt", encoding="utf-8") as lines:
        problems = [json.loads(line) for line in lines]
        named = [(str(one["task_id"]), str(one["prompt"])) for one in problems]
    yield from spread(named, limit)


def _questions(file: Path, limit: int) -> Iterator[tuple[str, str]]:
    """First turns, as many from each category as from any other."""
    groups: dict[str, list[tuple[str, str]]] = {}
    with _published(file):
        for line in _read(file).splitlines():
            one = json.loads(line)
            name = f"{one['category']}/{one['question_id']}"
            groups.setdefault(one["category"], []).append((name, str(one["turns"][0])))
    rows = -(-limit // max(1, len(groups)))
    turns = itertools.zip_longest(*(spread(group, rows) for group in groups.values()))
    yield from [one for row in turns for one in row if one is not None][:limit]


@contextmanager
def _published(file: Path) -> Iterator[None]:
    """Tell in one line that a file is not what its authors published."""
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError) as error:
        if isinstance(error, PromptError):
            raise
        raise PromptError(f"{file} cannot be read ({error}): give the file as published") from error


Reader = Callable[[Path, int], Iterator[tuple[str, str]]]
WORKLOADS: Mapping[str, tuple[str, Reader]] = {
    "wikitext": ("wikitext-2-raw/wiki.test.raw", _articles),
    "pg19": ("pg19_test_books", _books),
    "humaneval": ("humaneval/HumanEval.jsonl.gz", _problems),
    "spec-bench": ("spec_bench/question.jsonl", _questions),
}
"""Name → place in the data folder, and how it is read."""
_PASSAGES = ("wikitext", "pg19")
_LONGEST_TOKEN = 32
"""Characters, with much room: what is read of a book for each token of a prompt."""


def _place(data_dir: Path | None, where: str, name: str) -> Path:
    if data_dir is None:
        root = data_root()
        if root is None:
            raise PromptError(
                f"no evaluation text for {name}: {VARIABLE} names a folder with data/, --data-dir "
                "that folder itself; or give --prompts a file of your own"
            )
        data_dir = root / "data"
    place = data_dir.expanduser() / where
    if not place.exists():
        raise PromptError(
            f"{place} is not there: --data-dir names the folder with {where}, or give --prompts a "
            "file of your own"
        )
    return place


def _file(path: Path, name: str) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        near = get_close_matches(name.lower(), WORKLOADS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UnknownName(
            f"prompts {name!r}{hint}: no such file, and no workload: give a .txt or .jsonl file or "
            f"one of {', '.join(WORKLOADS)}"
        )
    text = _read(path)
    if path.suffix != ".jsonl":
        if text.strip():
            yield path.name, text.removesuffix("\n")
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        prompt = value.get("prompt") if isinstance(value, dict) else value
        if not isinstance(prompt, str) or not prompt or not _is_text(prompt):
            raise PromptError(
                f'{path}, line {number}: give a JSON string, or an object with a text "prompt"'
            )
        yield f"{path.name}:{number}", prompt


def _is_text(text: str) -> bool:
    """Return whether a text can be encoded: JSON may hold halves of characters."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(f"{path} cannot be read as text: give a UTF-8 file") from error
    except OSError as error:
        raise PromptError(f"{path}: {error.strerror}: give a file that can be read") from error


def spread(items: Sequence[T], limit: int) -> list[T]:
    """Return ``limit`` items at equal distances, or all."""
    if limit >= len(items):
        return list(items)
    count = limit
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]
