"""A terminal of a test: a process in it, what is typed, what is seen."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import pexpect
import pyte

ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[@-Z\\-_=>])")
ENTER, ESCAPE, TAB = "\r", "\x1b", "\t"
CTRL_C, CTRL_D, CTRL_U = "\x03", "\x04", "\x15"
PASTE = "\x1b[200~", "\x1b[201~"


class Window:
    """Runs ``outpace`` in a pseudo-terminal.

    Args:
        words: of the command line.
        env: beside the environment of the tests.
    """

    def __init__(self, *words: object, width: int = 110, height: int = 36, **env: str) -> None:
        self._log = ""
        self._mark = 0
        surroundings = {**os.environ, "TERM": "xterm-256color"}
        for variable in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR"):
            surroundings.pop(variable, None)
        surroundings |= env
        self.screen = pyte.Screen(width, height)
        self.screen.write_process_input = self.type
        self._stream = pyte.Stream(self.screen)
        self.process: Any = pexpect.spawn(
            sys.executable,
            ["-m", "outpace", *map(str, words)],
            env=surroundings,
            dimensions=(height, width),
            encoding="utf-8",
            # who runs the tests in the background has it ignored, and children would too
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.process.delaybeforesend = None

    def __enter__(self) -> "Window":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.process.close(force=True)

    @property
    def text(self) -> str:
        """What the screen shows."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def written(self) -> str:
        """What came since the last line was sent, without escapes."""
        return ESCAPES.sub("", self._log[self._mark :]).replace("\r\n", "\n")

    @property
    def folded(self) -> str:
        """The same in one line."""
        return " ".join(self.written.split())

    def colours(self, text: str) -> set[str]:
        """The colours of a text on the screen, wherever it stands."""
        found = set()
        for y, line in enumerate(self.screen.display):
            for place in re.finditer(re.escape(text), line):
                found |= {self.screen.buffer[y][x].fg for x in range(*place.span())}
        return found

    def type(self, text: str) -> None:
        """Send keys."""
        self.process.send(text)

    def resize(self, width: int, height: int) -> None:
        """Make the window another size."""
        self.process.setwinsize(height, width)
        self.screen.resize(height, width)

    def until(self, seen: Callable[[], bool] | str, seconds: float = 120) -> None:
        """Wait for a text since the last line that was sent, wherever lines end; or anything."""
        end = time.monotonic() + seconds
        wanted = (lambda: seen in self.folded) if isinstance(seen, str) else seen
        while not wanted():
            left = end - time.monotonic()
            assert left > 0, f"{seen!r} never came:\n{self.written[-3000:]}\n---\n{self.text}"
            self._read(min(left, 0.2))

    def ready(self) -> None:
        """Wait for the prompt: an empty line to type in."""
        self.until(self._is_ready)

    def clear(self) -> None:
        """Give up what stands on the line, whenever the prompt is there."""
        for _ in range(20):
            self.type(CTRL_C)
            end = time.monotonic() + 2
            while time.monotonic() < end:
                self._read(0.1)
                if self._is_ready():
                    return
        raise AssertionError(f"the prompt never came back:\n{self.text}")

    def _is_ready(self) -> bool:
        return bool(self.screen.display[self.screen.cursor.y].rstrip() == ">")

    def say(self, line: str, seen: Callable[[], bool] | str = "") -> str:
        """Send a line, wait for a text and for the prompt; return what was written."""
        self.begin(line)
        self.until(seen)
        self.ready()
        return self.written

    def begin(self, line: str) -> None:
        """Send a line."""
        self.ready()
        self.type(line)
        self.until(lambda: line.rpartition("\n")[2][-20:] in self.text)
        self._mark = len(self._log)
        self.type(ENTER)
        self.until(lambda: "\n" in self.written)

    def left(self) -> int:
        """Wait for the end of the process; return its exit code."""
        end = time.monotonic() + 30
        while self.process.isalive() and time.monotonic() < end:
            self._read(0.1)
        self.process.close()
        return int(self.process.exitstatus)

    def _read(self, seconds: float) -> None:
        try:
            data = self.process.read_nonblocking(100_000, seconds)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return
        self._log += data
        self._stream.feed(data)
