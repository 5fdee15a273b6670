"""``outpace warm``: compile models ahead; and what other commands share of it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from .. import zoo
from .options import a_text
from .text import visible

if TYPE_CHECKING:
    from ..models import LanguageModel

STAGES = 4
"""Steps of compiling a model: export, two packages, timing."""
RUNTIME = (
    "How forwards are run: eager, graph (CUDA), compile, or auto: graph on a GPU, compile on a CPU."
)


def warm(
    target: Annotated[str, a_text("MODEL", "Model folder or hub name.")] = "zoo:target",
    drafter: Annotated[
        list[str] | None,
        a_text("MODEL", "A draft model to compile too; zoo:target has its own; may be repeated."),
    ] = None,
    dtype: Annotated[str, a_text("NAME", "float32, bfloat16, float16, int8, int4.")] = "bfloat16",
) -> int:
    """Compile models for this machine's CPU ahead, so that the next run starts at full speed."""
    from .screen import loading

    if drafter is None:
        partner = zoo.partner(target)
        drafter = [partner] if partner.startswith(zoo.PREFIX) else []
    with loading(f"loading {target}"):
        from ..models import load

        models = [load(name, dtype=dtype, device="cpu") for name in (target, *drafter)]
    failed = False
    with _bar(STAGES * len(models)) as advance:
        for model in models:
            steps = _Steps(model.name, advance)
            model.use_runtime("compile", wait=True, note=steps)
            steps.finish()
    for model in models:
        if model.runtime_note is None:
            print(f"{visible(model.name)} is compiled")
        else:
            failed = True
            print(f"outpace: {visible(model.runtime_note)}", file=sys.stderr)
    return 2 if failed else 0


def run_as(models: "Sequence[LanguageModel]", runtime: str) -> None:
    """Have models run in a runtime from now on, wait for what that takes, say what was not had."""
    for model in models:
        told = False

        def note(what: str, name: str = model.name) -> None:
            nonlocal told
            if not told:
                print(
                    f"compiling {visible(name)} for this machine, once: takes a minute or more",
                    file=sys.stderr,
                    flush=True,
                )
            told = True

        model.use_runtime(runtime, wait=True, note=note)
    say_notes(models)


def say_notes(models: "Sequence[LanguageModel]") -> None:
    """Print why models do not run as asked for, a line each, on standard error."""
    for note in dict.fromkeys(model.runtime_note for model in models):
        if note is not None:
            print(f"outpace: {visible(note)}", file=sys.stderr)


class _Steps:
    """Moves the bar a step on when the next one begins."""

    def __init__(self, name: str, advance: Callable[[str, int], None]) -> None:
        self._name, self._advance, self._left = name, advance, STAGES
        advance(f"{name}: loading", 0)
        self._begun = False

    def __call__(self, what: str) -> None:
        done = int(self._begun)
        self._begun = True
        self._left -= done
        self._advance(f"{self._name}: {what}", done)

    def finish(self) -> None:
        self._advance(f"{self._name}: done", self._left)


@contextmanager
def _bar(steps: int) -> Iterator[Callable[[str, int], None]]:
    """Show a bar on a terminal, elsewhere a line a step."""
    from .screen import Screen

    screen = Screen(sys.stderr)
    if not screen.terminal:
        yield lambda what, done: print(visible(what), file=sys.stderr, flush=True)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=screen.console, transient=True) as bar:
        task = bar.add_task("", total=steps)
        yield lambda what, done: bar.update(task, advance=done, description=visible(what))
