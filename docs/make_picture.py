"""Draws docs/images/demo.svg and chat.svg: real runs of the embedded models, as a terminal shows.

Run it by hand after the screen, the demonstration or the chat has changed, with nothing else under
way, since there are times on it: ``python docs/make_picture.py``. The pictures hold no font, script
or link; a viewer's own monospace font sets the text.
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from outpace import Decoder
from outpace.chat import Chat, Methods
from outpace.cli.chat.lines import PROMPT, Lines
from outpace.cli.chat.loader import Loader
from outpace.cli.chat.talk import Talk
from outpace.cli.demo import DRAFT_LENGTH, PROMPTS, SAMPLING
from outpace.cli.screen import LEGEND, STYLES, Screen
from outpace.recipe import Recipe

IMAGES = Path(__file__).resolve().parent / "images"
COLUMNS = 90
NEW_TOKENS = 72
SAID = (
    "/target on",
    "/debug on",
    PROMPTS["prose"],
    "/compare on",
    " said, after a while, that",
)
"""Lines of the chat."""

# Rich's own frame asks a server for its font, which a README must not.
FORMAT = """\
<svg viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}" role="img"
     xmlns="http://www.w3.org/2000/svg">
<title>TITLE</title>
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px "Fira Code", "DejaVu Sans Mono",
  Menlo, Consolas, monospace; }}
.{unique_id}-title {{ font: bold 16px system-ui, "DejaVu Sans", Arial, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""

# One dark ground, readable on a light page and on a dark one.
THEME = TerminalTheme(
    background=(22, 27, 34),
    foreground=(230, 237, 243),
    normal=[
        (72, 79, 88),
        (255, 123, 114),
        (86, 211, 100),
        (240, 180, 60),
        (121, 192, 255),
        (210, 168, 255),
        (86, 212, 221),
        (177, 186, 196),
    ],
)


def demo() -> int:
    """Draw the demonstration; return 1 where the text is another one."""
    decoder = Decoder.from_pretrained(draft_length=DRAFT_LENGTH, dtype="float32")
    console = recorder()
    for kind, meaning in LEGEND.items():
        console.print(Text.assemble((f"{kind:<9}", STYLES[kind]), (f"  {meaning}", "dim")))
    console.print()
    prompt = PROMPTS["prose"]
    text = Text.assemble((prompt, "dim"))
    request = {"max_new_tokens": NEW_TOKENS, **SAMPLING}
    stream = decoder.stream(prompt, **request)
    for turn in stream:
        for piece, kind in zip(turn.pieces, turn.kinds, strict=True):
            text.append(piece, STYLES[kind])
    console.print(text)
    alone = Decoder(decoder.target).generate(prompt, **request)
    if stream.output.tokens != alone.tokens:
        print("the text is not what the model writes alone", file=sys.stderr)
        return 1
    stats = stream.output.stats
    console.print()
    console.print(
        f"{stats.new_tokens} tokens in {stats.rounds + 1} target forwards, "
        f"{stats.accepted} of {stats.drafted} draft tokens accepted; exact: the same text",
        style="dim",
    )
    save(console, "demo")
    return 0


class Recorded(Screen):
    """A screen whose console keeps what it is given."""

    def __init__(self, console: Console) -> None:
        super().__init__(io.StringIO())
        self.console = console
        self.terminal = self.colored = self.unicode = True

    def write(self, text: str) -> None:
        """Show a text."""
        self.console.print(text, end="")

    def end(self) -> None:
        """Finish the last line."""
        self.console.print()


class Scripted(Lines):
    """Lines that were written before."""

    interactive = True

    def __init__(self, console: Console, lines: tuple[str, ...]) -> None:
        self._console, self._lines = console, iter(lines)

    def next(self, offered: str, status: Callable[[], str], words: Any) -> str:
        """Return the next line, shown as if it had been typed."""
        line = next(self._lines, None)
        if line is None:
            raise EOFError
        self._console.print(Text.assemble((PROMPT, "bold"), line))
        return line


def chat() -> int:
    """Draw a chat."""
    loader = Loader(lambda now: None)
    recipe = Recipe(dtype="float32", runtime="eager", draft_length=DRAFT_LENGTH)
    made = Chat(Methods(recipe, load=loader), length=48)
    made.sampling = type(made.sampling)(**SAMPLING)
    made.enable(["speculative"])
    console = recorder()
    screen = Recorded(console)
    Talk(made, loader, screen, screen, Scripted(console, SAID)).run()
    save(console, "chat")
    return 0


def recorder() -> Console:
    """Return a console that keeps what it shows."""
    return Console(
        file=io.StringIO(),
        record=True,
        width=COLUMNS,
        force_terminal=True,
        color_system="standard",
        highlight=False,
        markup=False,
        legacy_windows=False,
    )


def save(console: Console, name: str) -> None:
    """Write what a console has shown as a picture."""
    IMAGES.mkdir(exist_ok=True)
    title = f"outpace {name}"
    frame = FORMAT.replace("TITLE", title)
    svg = console.export_svg(title=title, theme=THEME, code_format=frame, unique_id=name)
    (IMAGES / f"{name}.svg").write_text(svg, encoding="utf-8")
    print(f"{name}.svg")


if __name__ == "__main__":
    sys.exit(demo() or chat())
