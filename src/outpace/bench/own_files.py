"""Prompts and whole texts in a file of one's own: a text, or JSON Lines."""

import json
from collections.abc import Iterator
from pathlib import Path

from ..errors import PromptError
from .texts import Found, as_turns, lines, read


def own_file(path: Path) -> Iterator[Found]:
    """Yield the prompts of a file: one, or those of ``.jsonl``, one a line.

    A line is a JSON string, or an object with ``prompt`` or ``turns``: a text, or a list of texts
    of which the later ones are said after each answer.

    Raises:
        PromptError: it cannot be read, or a line is none of these.
    """
    text = read(path)
    if path.suffix != ".jsonl":
        if text.strip():
            yield Found(path.name, text.removesuffix("\n"))
        return
    for number, line in enumerate(lines(text), start=1):
        if line.strip():
            turns = _line(line)
            if turns is None:
                raise PromptError(
                    f'{path}, line {number}: give a JSON string, or an object with a text "prompt" '
                    'or, for several turns, a list of texts "turns"'
                )
            yield Found(f"{path.name}:{number}", turns[0], turns[1:])


def own_documents(path: Path) -> Iterator[Found]:
    """Yield the whole texts of a file: one, or those of ``.jsonl``, one a line.

    A line is a JSON string, or an object with a text under the first of ``text``, ``page`` and
    ``prompt`` that it has. Empty texts are left out; the text of a file is all of it, its last
    newline too.

    Raises:
        PromptError: it cannot be read, or a line is none of these.
    """
    text = read(path)
    if path.suffix != ".jsonl":
        if text.strip():
            yield Found(path.name, text)
        return
    for number, line in enumerate(lines(text), start=1):
        if line.strip():
            document = _document(line)
            if document is None:
                raise PromptError(
                    f'{path}, line {number}: give a JSON string, or an object with a text "text", '
                    '"page" or "prompt"'
                )
            if document:
                yield Found(f"{path.name}:{number}", document)


def _document(line: str) -> str | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if isinstance(value, dict):
        value = next((value[key] for key in _KEYS if key in value), None)
    if value == "":
        return ""
    return value if isinstance(value, str) and as_turns(value) is not None else None


_KEYS = ("text", "page", "prompt")


def _line(line: str) -> tuple[str, ...] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if isinstance(value, str):
        return as_turns(value)
    if isinstance(value, dict) and ("prompt" in value) != ("turns" in value):
        return as_turns(value.get("prompt", value.get("turns")))
    return None
