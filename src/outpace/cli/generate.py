"""``outpace generate``: write a text, streaming, in colour, or as JSON."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PromptError

if TYPE_CHECKING:
    from ..decoder import Decoder, Stream
    from ..types import Round

Prompt = Annotated[
    str | None, typer.Argument(help="The text to go on from; without it, standard input is read.")
]


def generate(
    prompt: Prompt = None,
    target: Annotated[str | None, typer.Option(help="Model folder or hub name.")] = None,
    drafter: Annotated[
        str, typer.Option(help="A method (none, ngram, prompt-lookup) or a model.")
    ] = "prompt-lookup",
    file: Annotated[Path | None, typer.Option(help="Read the prompt from a file.")] = None,
    draft_length: Annotated[
        str, typer.Option(help="Draft tokens a round, or a controller (adaptive).")
    ] = "5",
    max_new_tokens: Annotated[int, typer.Option(help="How many tokens to write at most.")] = 128,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_k: Annotated[int | None, typer.Option(help="Keep the k best tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Keep the best with this sum.")] = None,
    min_p: Annotated[float | None, typer.Option(help="Drop below this share of the best.")] = None,
    typical_p: Annotated[float | None, typer.Option(help="Locally typical sampling.")] = None,
    repetition_penalty: Annotated[float, typer.Option(help="1 is none.")] = 1.0,
    no_repeat_ngram_size: Annotated[int, typer.Option(help="0 is off.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the sampling noise.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text.")] = None,
    ignore_eos: Annotated[bool, typer.Option(help="Go on past the end token.")] = False,
    verifier: Annotated[str, typer.Option(help="coupled or rejection.")] = "coupled",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "bfloat16",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    color: Annotated[bool, typer.Option(help="Colour by kind of token, on a terminal.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> int:
    """Continue a prompt: the text the target alone would write, sooner."""
    if target is None:
        raise PromptError("no --target: give a model folder or a hub name")
    text = _read_prompt(prompt, file)
    from ..decoder import Decoder

    decoder = Decoder.from_pretrained(
        target,
        drafter=drafter,
        draft_length=draft_length,
        dtype=dtype,
        device=device,
        verifier=verifier,
    )
    settings: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "typical_p": typical_p,
        "repetition_penalty": repetition_penalty,
        "no_repeat_ngram_size": no_repeat_ngram_size,
        "seed": seed,
        "stop": stop,
        "ignore_eos": ignore_eos,
    }
    stream = decoder.stream(text, **settings)
    if as_json:
        names = {"target": target, "drafter": drafter, "draft_length": draft_length}
        names |= {"verifier": verifier, "dtype": dtype, "device": str(decoder.target.device)}
        return _print_json(decoder, stream, {**names, **settings, "prompt": text})
    return _print_text(decoder, stream, color=color)


def _read_prompt(prompt: str | None, file: Path | None) -> str:
    if prompt is not None and file is not None:
        raise PromptError("a prompt and --file: give one of them")
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PromptError(f"{file}: cannot be read as text: give a UTF-8 file") from error
        source = f"the file {file}"
    elif prompt is not None:
        text, source = prompt, "the prompt"
    elif sys.stdin.isatty():
        raise PromptError("no prompt: give one as an argument, with --file, or on standard input")
    else:
        try:
            text, source = sys.stdin.read(), "standard input"
        except UnicodeDecodeError as error:
            raise PromptError("standard input cannot be read as text: give UTF-8") from error
    if not text:
        raise PromptError(f"{source} is empty: give some text to go on from")
    return text


def _print_text(decoder: "Decoder", stream: "Stream", *, color: bool) -> int:
    from .screen import Screen, summary

    screen, notes = Screen(sys.stdout, color=color), Screen(sys.stderr, color=color)
    interrupted = False
    try:
        for turn in stream:
            screen.show(turn)
    except KeyboardInterrupt:
        interrupted = True
    screen.end()
    stats = stream.output.stats
    line = summary(stats, same_text=decoder.verifier.same_text, interrupted=interrupted)
    if screen.colored and stats.drafted:
        notes.console.print(notes.legend())
    notes.console.print(line)
    return 130 if interrupted else 0


def _print_json(decoder: "Decoder", stream: "Stream", request: dict[str, Any]) -> int:
    from ..version import __version__
    from .screen import kinds_and_pieces

    turns: list[Round] = []
    interrupted = False
    try:
        turns.extend(stream)
    except KeyboardInterrupt:
        interrupted = True
    output = stream.output
    record = {
        "outpace": __version__,
        "request": request,
        "text": output.text,
        "tokens": output.tokens,
        "emitted": kinds_and_pieces(turns),
        "stats": output.stats.as_dict(),
        "same_text": decoder.verifier.same_text,
        "interrupted": interrupted,
    }
    print(json.dumps(record, ensure_ascii=False))
    return 130 if interrupted else 0
