"""Prints a text as it is written, coloured by kind: python examples/stream_colours.py [MODEL]"""

import sys

from rich.console import Console
from rich.text import Text

from outpace import Decoder

PROMPT = "One day the cat saw the dog. The dog saw the cat. Then the"
COLOURS = {"accepted": "green", "recovered": "yellow", "bonus": "bold cyan", "plain": ""}


def main() -> None:
    target = sys.argv[1] if len(sys.argv) > 1 else "zoo:target"
    decoder = Decoder.from_pretrained(target, draft_length="adaptive")
    console = Console(highlight=False, soft_wrap=True)
    for kind, colour in COLOURS.items():
        console.print(kind, style=colour, end="  ")
    console.print("\n")
    console.print(PROMPT, style="dim", end="")
    stream = decoder.stream(PROMPT, max_new_tokens=80)
    for turn in stream:
        for piece, kind in zip(turn.pieces, turn.kinds, strict=True):
            console.print(Text(piece, COLOURS[kind], end=""), end="")
    console.print(f"\n\nended by: {stream.output.stats.end}")


if __name__ == "__main__":
    main()
