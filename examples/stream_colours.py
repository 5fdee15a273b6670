"""Prints a text as it is written, coloured by kind of token: python examples/stream_colours.py

Give a model folder or hub name as the argument to see words instead of random bytes.
"""

import sys

from rich.console import Console
from rich.text import Text

from outpace import Decoder
from outpace.testing import tiny_model

PROMPT = "One day the cat saw the dog. The dog saw the cat. Then the"
COLOURS = {"accepted": "green", "recovered": "yellow", "bonus": "bold cyan", "plain": ""}


def main() -> None:
    target = sys.argv[1] if len(sys.argv) > 1 else tiny_model()
    decoder = Decoder.from_pretrained(target, drafter="ngram", draft_length="adaptive")
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
