"""Draws docs/images/demo.svg: a real run of the embedded models, in the colours of the terminal.

Run it by hand after the screen or the demonstration has changed: ``python docs/make_picture.py``.
The picture holds no font, script or link; a viewer's own monospace font sets the text.
"""

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from outpace import Decoder
from outpace.cli.demo import DRAFT_LENGTH, PROMPTS, SAMPLING
from outpace.cli.screen import LEGEND, STYLES

PICTURE = Path(__file__).resolve().parent / "images" / "demo.svg"
TITLE = "outpace demo"
COLUMNS = 90
NEW_TOKENS = 72

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
""".replace("TITLE", TITLE)

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


def main() -> int:
    """Write the picture; return 1 where the text is another one."""
    decoder = Decoder.from_pretrained(draft_length=DRAFT_LENGTH, dtype="float32")
    console = Console(
        file=io.StringIO(),
        record=True,
        width=COLUMNS,
        force_terminal=True,
        color_system="standard",
        highlight=False,
        markup=False,
        legacy_windows=False,
    )
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
    PICTURE.parent.mkdir(exist_ok=True)
    svg = console.export_svg(title=TITLE, theme=THEME, code_format=FORMAT, unique_id="demo")
    PICTURE.write_text(svg, encoding="utf-8")
    print(f"{PICTURE.name}: {stats.accepted} of {stats.drafted} accepted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
