"""``outpace demo``: a real checkpoint writes through the loop, in colour, and is checked."""

import contextlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..data import VARIABLE, checkpoint
from .text import whole

if TYPE_CHECKING:
    from ..models import LanguageModel

CHECKPOINT = "TinyStories-656K"
PROMPTS = (
    ("Once upon a time there was a little dog named Max. Max", {"temperature": 0.0}),
    ('One day, Lily and Tom went to the park. "Look," said', {"temperature": 0.0}),
    ("The sun was high and the big bear was hungry. The bear", {"temperature": 0.6, "seed": 7}),
)


def demo(
    color: Annotated[bool, typer.Option(help="Colour by kind of token, on a terminal.")] = True,
    max_new_tokens: Annotated[
        int, typer.Option(parser=whole, metavar="N", help="Tokens a text.")
    ] = 120,
) -> int:
    """Write three texts live, then prove that they are what the model alone writes."""
    from .screen import Screen, loading, summary

    screen = Screen(sys.stdout, color=color)
    with loading("loading the model"):
        from ..decoder import Decoder
        from ..stopping import check_ends

        check_ends(max_new_tokens, ())
        target, story = _target()
        decoder = Decoder.from_pretrained(target, drafter="ngram")
        plain = Decoder.from_pretrained(target, drafter="none")
    say = screen.console.print
    say(story)
    if screen.colored:
        say(screen.legend())
    same = 0
    for prompt, settings in PROMPTS:
        say()
        how = f"temperature {settings['temperature']}" if settings["temperature"] else "greedy"
        say(f"[{how}]")
        screen.console.print(prompt, style="dim", end="")
        options = {"max_new_tokens": max_new_tokens, **settings}
        stream = decoder.stream(prompt, **options)  # type: ignore[arg-type]
        try:
            for turn in stream:
                screen.show(turn)
        finally:
            screen.end()
        say(summary(stream.output.stats, same_text=True), style="dim")
        alone = plain.generate(prompt, **options)  # type: ignore[arg-type]
        same += alone.tokens == stream.output.tokens
    say()
    say(f"{same} of {len(PROMPTS)} texts are, token for token, what the model writes alone.")
    command = _command()
    say(f'Next: {command} generate "Once upon a time" --target FOLDER, {command} doctor, docs/.')
    return 0 if same == len(PROMPTS) else 1


def _command() -> str:
    """Return how to call the command line from here."""
    installed = Path(sys.executable).with_name("outpace")
    if shutil.which("outpace") or not installed.exists():
        return "outpace"
    with contextlib.suppress(ValueError):
        return str(installed.relative_to(Path.cwd()))
    return str(installed)


def _target() -> tuple["LanguageModel", str]:
    from ..models import load
    from ..models.tiny import tiny_model

    folder = checkpoint(CHECKPOINT)
    if folder is None:
        return tiny_model(), (
            "No checkpoint is at hand, so a tiny random model writes: its text means nothing, the "
            f"loop is the real one. {VARIABLE} names a folder with models/{CHECKPOINT}."
        )
    return load(folder, dtype="float32"), (
        f"{CHECKPOINT}, a checkpoint of 656,000 parameters, writes; an n-gram store drafts."
    )
