"""``outpace demo``: the embedded pair writes in colour, then all methods are compared."""

import contextlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import zoo
from .bench import DEFAULT_METHODS
from .interrupt import INTERRUPTED
from .options import a_whole
from .progress import progress
from .tables import show

if TYPE_CHECKING:
    from ..bench import BenchPrompt, Models
    from .screen import Screen

PROMPTS = {
    "prose": "It was late in the autumn when the old captain came back to the village, and",
    "code": 'def read_lines(path):\n    """Return the lines of a text file."""\n',
    "dialogue": '"Have you read the letter?" asked Margaret.\n\n"I have," said her brother, "and',
}
DRAFT_LENGTH = 3
SAMPLING: dict[str, Any] = {"temperature": 0.8, "seed": 0}
"""Of the texts written live: the greedy text of so small a model runs in circles."""


def demo(
    color: Annotated[bool, typer.Option(help="Colour by kind of token, on a terminal.")] = True,
    max_new_tokens: Annotated[int, a_whole("Tokens a text.")] = 120,
) -> int:
    """Write three texts live, then measure every method on them: under three minutes."""
    from .screen import Screen, loading

    screen = Screen(sys.stdout, color=color)
    say = screen.console.print
    with loading("loading the embedded models"):
        from ..stopping import check_ends

        check_ends(max_new_tokens, ())
        from ..bench import BenchPrompt, Models, fit_prompts
        from ..models import load

        models = Models(load("zoo:target"), drafter := load(zoo.partner("zoo:target")))
        texts = [BenchPrompt(kind, kind, text) for kind, text in PROMPTS.items()]
        prompts, _ = fit_prompts(texts, models, max_new_tokens)
    say(
        f"{models.target.name} ({models.target.parameters / 1e6:.1f} M parameters) writes, "
        f"{drafter.name} ({drafter.parameters / 1e6:.1f} M) drafts "
        f"{DRAFT_LENGTH} tokens a round, at temperature {SAMPLING['temperature']}."
    )
    if screen.colored:
        say(screen.legend())
    _write(screen, models, prompts, max_new_tokens)
    say()
    say("Now every method in turn, on greedy texts from these beginnings:")
    code = _measure(screen, models, prompts, max_new_tokens)
    say()
    command = _command()
    say(f"Next: {command} bench (with your model: --target, with your text: --prompts FILE),")
    say(f'      {command} generate "Once upon a time", {command} doctor, docs/.')
    return code


def _write(
    screen: "Screen", models: "Models", prompts: list["BenchPrompt"], max_new_tokens: int
) -> None:
    from ..decoder import Decoder
    from ..drafters.model import ModelDrafter
    from ..lengths.fixed import FixedLength
    from .screen import summary

    assert models.drafter is not None
    drafter = ModelDrafter(models.drafter)
    decoder = Decoder(models.target, drafter, lengths=FixedLength(DRAFT_LENGTH))
    for prompt in prompts:
        screen.console.print()
        screen.console.print(f"[{prompt.name}]")
        screen.console.print(prompt.text, style="dim", end="")
        stream = decoder.stream(
            prompt.text, max_new_tokens=max_new_tokens, ignore_eos=True, **SAMPLING
        )
        try:
            for turn in stream:
                screen.show(turn)
        finally:
            screen.end()
        screen.console.print(summary(stream.output.stats, same_text=True), style="dim")


def _measure(screen: "Screen", models: "Models", prompts: list["BenchPrompt"], tokens: int) -> int:
    """Measure and print; return the exit code."""
    from ..bench import Bench, Writing, environment, make_method, make_record, that_run
    from ..bench.report import is_wrong

    names, why = that_run(DEFAULT_METHODS, models)
    if why is not None:
        screen.console.print(why)
    methods = [make_method(name, models, DRAFT_LENGTH) for name in names]
    bench = Bench(models, methods, prompts, Writing(tokens), repeats=3)
    with progress(bench.steps) as notify:
        done = bench.run(notify)
    config = {"dtype": str(models.target.dtype).removeprefix("torch."), "temperature": 0.0}
    record = make_record(done, config, environment())
    show(screen, record, brief=True)
    if done.interrupted:
        return INTERRUPTED
    return 1 if done.failed or is_wrong(record) else 0


def _command() -> str:
    """Return how to call the command line from here."""
    installed = Path(sys.executable).with_name("outpace")
    if shutil.which("outpace") or not installed.exists():
        return "outpace"
    with contextlib.suppress(ValueError):
        return str(installed.relative_to(Path.cwd()))
    return str(installed)
