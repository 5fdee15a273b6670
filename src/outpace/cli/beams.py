"""``outpace generate --beams``: the best text of a beam search, and its beams as a tree."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import InvalidArgument
from .interrupt import INTERRUPTED
from .text import print_json, visible

if TYPE_CHECKING:
    from rich.status import Status

    from ..beam import BeamOutput, BeamSearch
    from ..decoder import Decoder
    from .screen import Screen

RULES = ("num_beams", "length_penalty", "early_stopping", "penalty", "num_return_sequences")
STOPPING: dict[str, bool | str] = {"true": True, "false": False, "never": "never"}


def beam_settings(
    num_beams: int | None,
    options: dict[str, Any],
    others: dict[str, tuple[Any, Any]],
) -> dict[str, Any] | None:
    """Return the settings of a beam search, or None where none is asked for.

    Args:
        num_beams: None for none.
        options: those of beams alone, by their names on the command line; None if not given.
        others: options that make no sense with beams: what was given, and the default.

    Raises:
        InvalidArgument: options that make no sense together.
    """
    if num_beams is None:
        for name, value in options.items():
            if value is not None:
                raise InvalidArgument(f"--{name} without --beams: give --beams N too, or neither")
        return None
    for name, (value, default) in others.items():
        if value != default:
            raise InvalidArgument(
                f"--beams with --{name} {value}: beam search neither samples nor drafts: "
                "leave one of them out"
            )
    wanted = options["early-stopping"] or "false"
    if wanted not in STOPPING:
        raise InvalidArgument(f"early stopping {wanted!r}: choose one of {', '.join(STOPPING)}")
    values = (
        num_beams,
        options["length-penalty"],
        STOPPING[wanted],
        options["beam-penalty"] or "power",
        num_beams,
    )
    return dict(zip(RULES, values, strict=True))


def check_beams(settings: dict[str, Any]) -> None:
    """Raise InvalidArgument for a beam search that cannot be run."""
    from ..beam import BeamRules

    BeamRules(**{name: settings[name] for name in (*RULES, "top_k")})


def search(
    decoder: "Decoder", prompt: str, settings: dict[str, Any], *, show: bool, color: bool
) -> int:
    """Search, print the best text and, if wanted, the tree; return the exit code."""
    from .beam_tree import draw
    from .screen import Screen

    running = decoder.beams(prompt, **settings)
    screen, notes = Screen(sys.stdout, color=color), Screen(sys.stderr, color=color)
    with _progress(notes) as status:
        interrupted = _run(running, status)
    output = running.output
    screen.write(output.text)
    screen.end()
    if show and output.hypotheses:
        if not screen.terminal:
            screen.console.width = 100
        tree = draw(output, decoder.target.tokenizer, prompt)
        screen.console.print(tree, soft_wrap=False)
    notes.console.print(_summary(output, settings["num_beams"], interrupted=interrupted))
    return INTERRUPTED if interrupted else 0


def search_as_json(
    decoder: "Decoder",
    prompt: str,
    settings: dict[str, Any],
    request: dict[str, Any],
    *,
    show: bool,
) -> int:
    """Search, print everything as JSON; return the exit code."""
    from ..version import __version__

    running = decoder.beams(prompt, **settings)
    request["length_penalty"] = running.rules.alpha
    interrupted = _run(running)
    output = running.output
    record = {
        "outpace": __version__,
        "request": request,
        "text": output.text,
        "tokens": output.tokens,
        "beams": [one.as_dict() for one in output.hypotheses],
        "stats": output.stats.as_dict(),
        "interrupted": interrupted,
    }
    if show:
        record["tree"] = output.tree.as_dict()
    print_json(record)
    return INTERRUPTED if interrupted else 0


def _run(running: "BeamSearch", status: "Status | None" = None) -> bool:
    """Search to the end; return whether Ctrl-C came first. What was found is kept."""
    try:
        for step in running:
            if status is not None:
                done = f"{step.index + 1} tokens · {len(step.living)} beams growing"
                status.update(f"{done} · {len(running.tree.finished)} ends found")
    except KeyboardInterrupt:
        return True
    return False


@contextmanager
def _progress(notes: "Screen") -> "Iterator[Status | None]":
    """Show how far the search is, where someone looks."""
    if not notes.colored:
        yield None
        return
    with notes.console.status("") as status:
        yield status


def _summary(output: "BeamOutput", num_beams: int, *, interrupted: bool) -> str:
    """Return one line about a search."""
    stats = output.stats
    if not output.hypotheses:
        return "0 tokens · interrupted" if interrupted else "0 tokens · every token is banned"
    best = output.hypotheses[0]
    parts = [
        f"{stats.new_tokens} tokens in {stats.total:.2f} s",
        f"{stats.steps / stats.total:.1f} steps/s",
        f"{num_beams} beams",
        f"{len(output.tree) - 1} nodes explored",
        f"score {best.score:.3f}",
        "interrupted" if interrupted else f"end: {best.end or 'every token is banned'}",
    ]
    return visible(" · ".join(parts))
