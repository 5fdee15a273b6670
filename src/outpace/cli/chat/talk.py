"""The talk itself: lines in, answers out, until somebody leaves."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...chat import Chat, totals
from ...chat.methods import PLAIN
from ...errors import ContextFull, OutpaceError
from ..screen import Screen, loading
from ..text import visible
from . import about_methods, about_sampling, about_screen, about_text, tables
from .about_sampling import law
from .paint import Painter
from .slash import find, is_command, offered

if TYPE_CHECKING:
    from ...chat import Answering, Reply
    from .lines import Lines
    from .loader import Loader

GROUPS = {
    "who answers": about_methods.COMMANDS,
    "how tokens are chosen": about_sampling.COMMANDS,
    "what was said": about_text.COMMANDS,
    "what is shown": about_screen.COMMANDS,
}
ROOM = (
    "/undo takes back the last message, /forget 1 drops the oldest, /clear all of them; "
    "/save FILE keeps them first"
)
"""What can be done about a context that is full."""


class Talk:
    """A prompt, and what it is in the middle of.

    Args:
        chat: who answers what.
        loader: what its models are loaded with.
        screen: where answers go.
        notes: where everything else goes.
        lines: where lines come from.

    Attributes:
        commands: by name.
        debug: whether rounds are shown in colours; likewise ``trees``, ``compare`` and ``stats``.
        offered: what the next line begins with.
        running: False once somebody wants to leave.
    """

    def __init__(
        self, chat: Chat, loader: "Loader", screen: Screen, notes: Screen, lines: "Lines"
    ) -> None:
        self.chat, self._loader = chat, loader
        self.screen, self.notes, self.lines = screen, notes, lines
        self.painter = Painter(screen)
        self.commands = {one.name: one for group in GROUPS.values() for one in group}
        self.debug = self.trees = self.compare = False
        self.stats = self.running = True
        self.offered = ""
        self._failed = False
        self._status = ""

    def run(self) -> int:
        """Talk until the end; return the exit code: 2 if a line of a pipe was refused."""
        if self.lines.interactive:
            self._greet()
        while self.running:
            try:
                self._turn()
            except EOFError:
                break
            except KeyboardInterrupt:
                if self.lines.interactive:
                    self.note("Ctrl-D or /quit leaves")
                else:
                    raise
        return 2 if self._failed and not self.lines.interactive else 0

    def _turn(self) -> None:
        begins, self.offered = self.offered, ""
        line = self.lines.next(begins, self.status, lambda before: offered(self.commands, before))
        self.take(line)

    def take(self, line: str) -> None:
        """Do what a line says; what goes wrong is told, and nothing is lost."""
        try:
            line.encode()
            if is_command(line.strip()):
                command, rest = find(self.commands, line.strip())
                command.run(self, rest)
            elif line.strip():
                self.ask(line[1:] if line.startswith("//") else line)
        except UnicodeEncodeError:
            # bytes that are no UTF-8 arrive as lone surrogates, which no tokenizer takes
            self.refuse("the line has bytes that are no text: give UTF-8")
        except OutpaceError as error:
            self.refuse(str(error))
        except Exception as error:
            if not self.lines.interactive:
                raise
            if type(error).__name__ == "OutOfMemoryError":
                self.refuse("the device ran out of memory: /cache off or /clear gives some back")
            else:
                traceback.print_exc()
                self.refuse("that was an error of Outpace: the conversation is kept, /save FILE")
        self._status = ""

    def ask(self, message: str | None) -> None:
        """Have every method answer a message, in turn; None goes on with the last answer.

        Ctrl-C stops the answer under way and those after it; what is written is kept.
        """
        replies: list[Reply] = []
        stopped = False
        try:
            self._answer(message, replies)
        except KeyboardInterrupt:
            stopped = True
        kept = self.chat.keep(message, replies)
        if kept is None:
            self.offered = message or ""
            if stopped:
                self.note("stopped before the first token: nothing is kept")
        else:
            if self.compare:
                self.show_side_by_side()
            self._after(kept)
        if stopped and not self.lines.interactive:
            raise KeyboardInterrupt  # who stops a program that nobody types to, stops all of it

    def _answer(self, message: str | None, replies: list["Reply"]) -> None:
        chat = self.chat
        several = len(chat.methods.enabled) > 1
        for name in chat.methods.enabled:
            where = f"{name}: " if several else ""
            try:
                answering = chat.answer(name, message)
            except ContextFull as error:
                self.refuse(f"{where}{error}: {ROOM}")
                continue
            except OutpaceError as error:
                self.refuse(f"{where}{error}")
                continue
            if several and not self.compare:
                self.screen.console.print(f"[{name}]", style="bold")
            try:
                self._show(answering)
            finally:
                replies.append(answering.reply)
                if self.stats and not self.compare:
                    plain = next((one for one in replies if one.method == PLAIN), None)
                    self.note(tables.line(replies[-1], plain))

    def _show(self, answering: "Answering") -> None:
        """Show an answer while it is written."""
        screen, tokenizer = self.screen, answering.decoder.target.tokenizer
        if self.compare:
            count = 0
            with loading(answering.method) as say:
                for turn in answering:
                    count += len(turn.tokens)
                    say(f"{answering.method}: {count} tokens")
            return
        try:
            for turn in answering:
                if self.trees:
                    screen.console.print(*self.painter.tree(turn, tokenizer), "", sep="\n")
                elif self.debug:
                    screen.console.print(self.painter.text(turn, tokenizer), end="")
                    screen.flush()
                else:
                    screen.write(turn.text)
        finally:
            if self.trees:
                screen.write(answering.reply.output.text)
            screen.end()

    def _after(self, kept: "Reply") -> None:
        """Say what can be done where an answer came to a limit."""
        if kept.stats.end == "context":
            limit = self.chat.target.context_length
            self.note(f"the context of {limit:,} tokens is full: {ROOM}")
        elif kept.stats.end == "length" and self.lines.interactive:
            self.note(f"that is /length {self.chat.length}: /more goes on")

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Show what is loaded meanwhile."""
        with loading("getting ready") as say:
            self._loader.say = say
            try:
                yield
            finally:
                self._loader.say = lambda now: None
        for note in dict.fromkeys(model.runtime_note for model in self.chat.methods.models):
            if note is not None:
                self.note(note)

    def note(self, text: str) -> None:
        """Say something that is no answer."""
        self.screen.flush()
        # on a terminal, lines end between words
        self.notes.console.print(visible(text), style="dim", soft_wrap=not self.notes.terminal)

    def refuse(self, message: str) -> None:
        """Say in one line what cannot be."""
        self._failed = True
        self.screen.flush()
        line = "outpace: " + visible(" ".join(message.split()))
        print(line, file=sys.stderr, flush=True)

    def status(self) -> str:
        """Return what is set, in a line."""
        if not self._status:
            chat, recipe = self.chat, self.chat.methods.recipe
            parts = [_short(recipe.target), f"drafter {_short(chat.methods.drafter_name)}"]
            parts += [", ".join(chat.methods.enabled), law(chat.sampling)]
            limit = chat.target.context_length
            with contextlib.suppress(OutpaceError):  # a template may refuse what was said
                used, room = f"{chat.used:,}", "" if limit is None else f" of {limit:,}"
                parts.append(f"{used}{room} tokens")
            parts += [word for word in ("debug", "compare") if getattr(self, word)]
            self._status = " " + " · ".join(parts)
        return self._status

    def show_side_by_side(self) -> None:
        """Print the last answers next to each other."""
        table = tables.side_by_side(self.chat.replies, self.screen)
        self._print(table)
        if all(one.method != PLAIN for one in self.chat.replies):
            self.note(f"/{PLAIN} on answers with plain decoding too: then there is a gain to show")

    def show_totals(self) -> None:
        """Print what the answers add up to."""
        rows = totals(self.chat.turns, PLAIN)
        self._print(tables.sums(rows, self.screen))
        held = self.chat.kv_bytes
        self.note(f"keys and values of the sessions: {held / 2**20:.1f} MiB")

    def show_help(self) -> None:
        """Print the commands."""
        self._print(tables.listed(GROUPS, self.screen))
        self.screen.console.print(
            "Everything else is a message; // begins one with a slash. Alt-Enter or a backslash "
            "before Enter makes a new line, Ctrl-C stops an answer, Ctrl-D leaves.",
            soft_wrap=not self.screen.terminal,
        )

    def _print(self, table: Any) -> None:
        if not self.screen.terminal:
            self.screen.console.width = tables.WIDTH
        self.screen.console.print(table, soft_wrap=False)

    def _greet(self) -> None:
        chat = self.chat
        way = "its chat template" if chat.template else "its text is gone on with"
        self.note(f"{chat.methods.recipe.target} · {way} · /help lists the commands")
        if chat.conversation.exchanges:
            self.note(f"{len(chat.conversation)} messages so far")


def _short(name: str) -> str:
    """Return a model's name, of a folder its last part."""
    return os.path.basename(os.path.normpath(name)) if os.path.isdir(name) else name
