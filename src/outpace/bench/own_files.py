"""Prompts in a file of one's own: a text, or JSON Lines."""

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
