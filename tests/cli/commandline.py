"""What the tests of the command line share."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
