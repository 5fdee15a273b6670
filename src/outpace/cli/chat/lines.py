"""Where lines come from: a terminal that edits, completes and remembers them, or a pipe."""

import io
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.defaults import create_output
from prompt_toolkit.styles import Style

from ...folders import cache_folder
from ..text import visible

if TYPE_CHECKING:
    from ..screen import Screen
    from .slash import Words

REMEMBERED = 1000
"""Lines that are kept between runs; the file may grow to twice as many."""
PROMPT, MORE = "> ", "  "
_STYLE = Style.from_dict({"prompt": "bold", "bottom-toolbar": "noreverse"})


class Lines(ABC):
    """Gives one line after the other."""

    interactive: bool

    @abstractmethod
    def next(self, offered: str, status: Callable[[], str], words: "Words") -> str:
        """Return the next line.

        Args:
            offered: what it begins with.
            status: says what is set, below the line.
            words: what could stand at a place, for the tab key.

        Raises:
            EOFError: there are no more.
            KeyboardInterrupt: the line is given up.
        """


class Piped(Lines):
    """Lines of standard input; one that ends with a backslash goes on in the next."""

    interactive = False

    def next(self, offered: str, status: Callable[[], str], words: "Words") -> str:
        """Return the next line without its end."""
        parts: list[str] = []
        while True:
            line = sys.stdin.readline()
            if not line and not parts:
                raise EOFError
            goes_on = line.endswith("\\\n")
            parts.append(line[:-2] if goes_on else line.removesuffix("\n").removesuffix("\r"))
            if not goes_on:
                return "\n".join(parts)


class Typed(Lines):
    """Lines typed on a terminal: edited, completed, remembered.

    Args:
        history: what was typed before.
        color: whether the terminal is to have colours.
    """

    interactive = True

    def __init__(self, history: History, *, color: bool) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=history,
            multiline=True,
            key_bindings=_keys(),
            style=_STYLE,
            color_depth=None if color else ColorDepth.DEPTH_1_BIT,
            output=create_output(always_prefer_tty=True),
            complete_while_typing=False,
            prompt_continuation=lambda width, number, wrapped: MORE,
        )

    def next(self, offered: str, status: Callable[[], str], words: "Words") -> str:
        """Return the next line; pasted line ends are part of it."""
        return self._session.prompt(
            FormattedText([("class:prompt", PROMPT)]),
            default=offered,
            completer=WordCompleter(words),
            bottom_toolbar=lambda: visible(status()),
        )


class WordCompleter(Completer):
    """Completes by what could stand at a place.

    Args:
        words: says that of the text before the cursor.
    """

    def __init__(self, words: "Words") -> None:
        self._words = words
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """Yield what the text before the cursor could go on with."""
        before = document.text_before_cursor
        start, known, paths = self._words(before)
        begun = before[start:]
        for word, about in known:
            if word.startswith(begun):
                yield Completion(word, start_position=-len(begun), display_meta=about)
        if paths:
            yield from self._paths.get_completions(Document(begun), event)


class Remembered(FileHistory):
    """What was typed, in a file that stays small; one that cannot be written disturbs nobody.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        lines = list(self.load_history_strings())
        if len(lines) > 2 * REMEMBERED:
            path.unlink()
            for line in reversed(lines[:REMEMBERED]):
                self.store_string(line)
        path.touch(mode=0o600)

    def store_string(self, string: str) -> None:
        """Append a line; bytes that are no text are left out."""
        with suppress(OSError):
            super().store_string(string.encode(errors="ignore").decode())


def lines_from(notes: "Screen", *, keep: bool) -> Lines:
    """Return where lines come from here.

    Args:
        notes: whether it has colours, so has the line that is typed.
        keep: remember what was typed between runs.
    """
    if not sys.stdin.isatty():
        if isinstance(sys.stdin, io.TextIOWrapper):
            # one line that is no text is refused, those after it are read
            sys.stdin.reconfigure(errors="surrogateescape")
        return Piped()
    return Typed(_history() if keep else InMemoryHistory(), color=not notes.console.no_color)


def _history() -> History:
    path = cache_folder() / "chat-history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Remembered(path)
    except OSError:  # nowhere to write
        return InMemoryHistory()


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if (
            buffer.document.text_before_cursor.endswith("\\")
            and buffer.document.is_cursor_at_the_end
        ):
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    return keys
