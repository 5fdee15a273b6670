"""What the tests of the command line share."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outpace.models import LanguageModel

PROMPT = "the cat and the dog and the cat and the "


@dataclass
class Ran:
    """What a command did: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.out)
        return record


class Terminal(io.StringIO):
    """A stream that someone looks at."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Piped(io.StringIO):
    """A stream that nobody looks at."""

    encoding = "utf-8"


Run = Callable[..., Ran]


def save(model: LanguageModel, folder: Path) -> Path:
    """Write a model's folder."""
    model.model.set_attn_implementation("sdpa")
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)  # type: ignore[union-attr]
    return folder
