"""``outpace generate``: write a text, streaming, in colour, or as JSON."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PromptError
from .beams import beam_settings, check_beams, search, search_as_json
from .interrupt import INTERRUPTED
from .options import (
    CACHE_POLICY,
    DRAFTER_CACHE_POLICY,
    DRAFTER_DTYPE,
    DTYPE,
    a_number,
    a_text,
    a_whole,
)
from .recipe import OF_A_RECIPE, PRESET, a_recipe, recipe_for
from .text import print_json
from .warm import RUNTIME, say_notes

if TYPE_CHECKING:
    from ..decoder import Decoder, Stream
    from ..recipe import Recipe
    from ..types import Round

_ASKED = ("tree", "draft_length", "verifier", "bitwise")
"""What decides which drafter ``auto`` is."""


def generate(
    context: typer.Context,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT",
            help="The text to go on from, in quotes; without it, standard input is read. One line "
            "end at the end of a file or of standard input is dropped.",
        ),
    ] = None,
    target: Annotated[str, a_text("MODEL", "Model folder or hub name.")] = "zoo:target",
    drafter: Annotated[
        str,
        a_text(
            "NAME",
            "A method (none, ngram, prompt-lookup, suffix, recycling …), with settings or without, "
            "as in 'early-exit(layers=2)', a model folder or hub name; auto is prompt-lookup, but "
            "for the embedded target cascade with its drafter.",
        ),
    ] = "auto",
    file: Annotated[str | None, a_text("PATH", "Read the prompt from a file.")] = None,
    recipe_file: Annotated[
        str | None,
        a_recipe(
            "Decode as this file says, which outpace tune has written; --target, --drafter, "
            "--tree, --draft-length, --verifier, --dtype, --drafter-dtype, --device, --runtime and "
            "the cache policies win where they are given."
        ),
    ] = None,
    preset: Annotated[str | None, a_text("NAME", PRESET)] = None,
    tree: Annotated[
        str | None,
        a_text(
            "SHAPE",
            "The draft model drafts token trees: best_first, fixed(depth=4, branch=2), "
            "pruned(tau=0.03) + adaptive_breadth …",
        ),
    ] = None,
    draft_length: Annotated[
        str | None,
        a_text(
            "N",
            "Draft tokens a round, or a controller: gate (as much as pays), adaptive, confidence. "
            "Default: gate.",
        ),
    ] = None,
    max_new_tokens: Annotated[int, a_whole("How many tokens to write at most.")] = 128,
    temperature: Annotated[float, a_number("0 is greedy.")] = 0.0,
    top_k: Annotated[int | None, a_whole("Keep the N best tokens.")] = None,
    top_p: Annotated[float | None, a_number("Keep the fewest best with this sum.")] = None,
    min_p: Annotated[float | None, a_number("Drop below this share of the best.")] = None,
    typical_p: Annotated[float | None, a_number("Locally typical sampling.")] = None,
    repetition_penalty: Annotated[float, a_number("1 is none.")] = 1.0,
    no_repeat_ngram_size: Annotated[int, a_whole("No N-gram twice; 0 is off.")] = 0,
    seed: Annotated[int, a_whole("Of the sampling noise.")] = 0,
    stop: Annotated[
        list[str] | None, a_text("TEXT", "End before this text; may be given several times.")
    ] = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Go on past the end token.")
    ] = False,
    verifier: Annotated[
        str, a_text("NAME", "coupled, rejection, sequoia (trees) or block (chains).")
    ] = "coupled",
    beams: Annotated[
        int | None, a_whole("Beam search: how many texts grow at once; the best is printed.")
    ] = None,
    length_penalty: Annotated[
        float | None, a_number("Of beams: above 0 favours long texts. Default: 1, gnmt: 1.2.")
    ] = None,
    early_stopping: Annotated[
        str | None, a_text("WHEN", "Of beams: true, false (a heuristic) or never. Default: false.")
    ] = None,
    beam_penalty: Annotated[
        str | None, a_text("NAME", "Kind of length penalty: power or gnmt. Default: power.")
    ] = None,
    show_beams: Annotated[
        bool, typer.Option("--show-beams", help="Draw the tree of the beams.")
    ] = False,
    dtype: Annotated[str, a_text("NAME", DTYPE)] = "bfloat16",
    drafter_dtype: Annotated[str | None, a_text("NAME", DRAFTER_DTYPE)] = None,
    cache_policy: Annotated[str | None, a_text("POLICY", CACHE_POLICY)] = None,
    drafter_cache_policy: Annotated[str | None, a_text("POLICY", DRAFTER_CACHE_POLICY)] = None,
    device: Annotated[str, a_text("NAME", "auto, cpu, cuda …")] = "auto",
    runtime: Annotated[str, a_text("NAME", RUNTIME)] = "auto",
    bitwise: Annotated[
        bool,
        typer.Option(
            "--bitwise",
            help="Run all forwards at one width, so that drafting does not change the last bits "
            "of a score; chains only, and slower.",
        ),
    ] = False,
    color: Annotated[bool, typer.Option(help="Colour by kind of token, on a terminal.")] = True,
    show_trees: Annotated[
        bool, typer.Option("--show-trees", help="Draw what each round drafted, then the text.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> int:
    """Continue a prompt: the text the target alone would write, sooner."""
    searched = beam_settings(
        beams,
        {
            "length-penalty": length_penalty,
            "early-stopping": early_stopping,
            "beam-penalty": beam_penalty,
            "show-beams": show_beams or None,
        },
        {
            "temperature": (temperature, 0.0),
            "top-p": (top_p, None),
            "min-p": (min_p, None),
            "typical-p": (typical_p, None),
            "drafter": (drafter, "auto"),
            "tree": (tree, None),
            "show-trees": (show_trees, False),
            "draft-length": (draft_length, None),
            "verifier": (verifier, "coupled"),
            "cache-policy": (cache_policy, None),
            "preset": (preset, None),
        },
    )
    recipe = recipe_for(context, recipe_file, preset, OF_A_RECIPE)
    if recipe is not None:
        target, drafter, tree = recipe.target, recipe.drafter, recipe.tree
        draft_length = None if recipe.draft_length is None else str(recipe.draft_length)
        verifier, dtype, device = recipe.verifier, recipe.dtype, recipe.device
        drafter_dtype = recipe.drafter_dtype
        cache_policy, drafter_cache_policy = recipe.cache_policy, recipe.drafter_cache_policy
        runtime = recipe.runtime
    text = _read_prompt(prompt or [], file)
    sampling: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "typical_p": typical_p,
        "repetition_penalty": repetition_penalty,
        "no_repeat_ngram_size": no_repeat_ngram_size,
        "seed": seed,
    }
    ends: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "stop": stop or [],
        "ignore_eos": ignore_eos,
    }
    parts: dict[str, Any] = {
        "drafter": drafter,
        "tree": tree,
        "draft_length": draft_length,
        "dtype": dtype,
        "drafter_dtype": drafter_dtype,
        "device": device,
        "runtime": runtime,
        "verifier": verifier,
        "bitwise": bitwise,
        "cache_policy": cache_policy,
        "drafter_cache_policy": drafter_cache_policy,
    }
    if searched is not None:
        kept = ("top_k", "repetition_penalty", "no_repeat_ngram_size")
        searched |= {name: sampling[name] for name in kept}
        parts = {"drafter": "none", "dtype": dtype, "device": device, "runtime": runtime}
        decoder = _load(target, parts, sampling, ends, searched)
        settings = {**searched, **ends}
        if not as_json:
            return search(decoder, text, settings, show=show_beams, color=color)
        request = {"target": target, "dtype": dtype, "device": str(decoder.target.device)}
        request |= {**settings, "prompt": text}
        return search_as_json(decoder, text, settings, request, show=show_beams)
    decoder = _load(target, parts, sampling, ends, recipe=recipe)
    from ..lengths.gate import GateLength

    if draft_length is None and isinstance(decoder.lengths, GateLength):
        parts["draft_length"] = "gate"  # who decides then, for the record
    stream = decoder.stream(text, **sampling, **ends)
    if as_json:
        request = {"target": target, **parts, **sampling, **ends, "prompt": text}
        request |= {} if recipe_file is None else {"recipe": recipe_file}
        request |= {} if preset is None else {"preset": preset}
        request["device"] = str(decoder.target.device)
        return _print_json(decoder, stream, request, trees=show_trees)
    return _print_text(decoder, stream, color=color, trees=show_trees)


def _load(
    target: str,
    parts: dict[str, Any],
    sampling: dict[str, Any],
    ends: dict[str, Any],
    searched: dict[str, Any] | None = None,
    recipe: "Recipe | None" = None,
) -> "Decoder":
    """Load the models, after all values are known to be good: loading may take minutes."""
    from .screen import loading

    with loading(f"loading {target}"):
        from ..compose import with_partner
        from ..decoder import Decoder
        from ..sampling import Sampling
        from ..stopping import check_ends

        check_ends(ends["max_new_tokens"], ends["stop"])
        Sampling(**sampling)
        if searched is not None:
            check_beams(searched)
        asked = {name: parts[name] for name in _ASKED if name in parts}
        parts["drafter"] = with_partner(parts["drafter"], target, **asked)  # for the record
        if recipe is None:
            decoder = Decoder.from_pretrained(target, **parts)
        else:
            decoder = recipe.decoder(bitwise=parts["bitwise"])
    say_notes([decoder.target, *decoder.drafter.models])
    if decoder.target.tokenizer is None:
        raise PromptError(
            f"{target} has no tokenizer that can be read, so it cannot take a text: "
            "put the model's tokenizer files (tokenizer.json) into its folder"
        )
    return decoder


def _read_prompt(words: list[str], file: str | None) -> str:
    if words and file is not None:
        raise PromptError(f"a prompt ({words[0]!r}) and --file ({file}): give one of them")
    if len(words) > 1:
        raise PromptError(
            f"{len(words)} prompts (the second is {words[1]!r}): "
            "put quotes around a prompt of several words"
        )
    if file is not None:
        text, source = _read_file(file), f"the file {file}"
    elif words:
        text, source = words[0], "the prompt"
    elif sys.stdin.isatty():
        raise PromptError("no prompt: give one as an argument, with --file, or on standard input")
    else:
        text, source = _read_stdin(), "standard input"
    if not text:
        raise PromptError(f"{source} is empty: give some text to go on from")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # bytes that are no UTF-8 arrive as lone surrogates, which no tokenizer takes
        raise PromptError(f"{source} cannot be read as text: give UTF-8") from error
    return text


def _read_file(name: str) -> str:
    try:
        return _without_last_newline(Path(name).read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise PromptError(f"{name} cannot be read as text: give a UTF-8 file") from error
    except (OSError, ValueError) as error:  # ValueError: a name no file can have
        why = getattr(error, "strerror", None) or str(error)
        raise PromptError(f"--file {name}: {why}: give a text file that can be read") from error


def _read_stdin() -> str:
    try:
        return _without_last_newline(sys.stdin.read())
    except UnicodeDecodeError as error:
        raise PromptError("standard input cannot be read as text: give UTF-8") from error


def _without_last_newline(text: str) -> str:
    """The end of the last line belongs to the file (or to echo), not to the prompt."""
    return text.removesuffix("\n").removesuffix("\r")


def _print_text(decoder: "Decoder", stream: "Stream", *, color: bool, trees: bool) -> int:
    from .screen import Screen, summary
    from .trees import drawn, headline

    screen, notes = Screen(sys.stdout, color=color), Screen(sys.stderr, color=color)
    interrupted = False
    try:
        for turn in stream:
            if trees:
                picture = drawn(turn, decoder.target.tokenizer, unicode=screen.unicode)
                screen.console.print(headline(turn), picture, "", sep="\n")
            else:
                screen.show(turn)
    except KeyboardInterrupt:
        interrupted = True
    if trees:
        screen.write(stream.output.text)
    screen.end()
    stats = stream.output.stats
    line = summary(stats, same_text=decoder.verifier.same_text, interrupted=interrupted)
    if screen.colored and notes.colored and stats.drafted:
        notes.console.print(notes.legend())
    notes.console.print(line)
    return INTERRUPTED if interrupted else 0


def _print_json(
    decoder: "Decoder", stream: "Stream", request: dict[str, Any], *, trees: bool
) -> int:
    from ..version import __version__
    from .screen import kinds_and_pieces

    turns: list[Round] = []
    interrupted = False
    try:
        for turn in stream:
            turns.append(turn)  # noqa: PERF402 - what was written before Ctrl-C is kept
    except KeyboardInterrupt:
        interrupted = True
    output = stream.output
    stats = output.stats.as_dict()
    if interrupted:
        stats["end"] = "interrupted"
    record = {
        "outpace": __version__,
        "request": request,
        "text": output.text,
        "tokens": output.tokens,
        "emitted": kinds_and_pieces(turns),
        "stats": stats,
        "same_text": decoder.verifier.same_text,
        "interrupted": interrupted,
    }
    if trees:
        record["trees"] = [_tree(turn) for turn in turns]
    print_json(record)
    return INTERRUPTED if interrupted else 0


def _tree(turn: "Round") -> dict[str, Any]:
    tokens, parents = turn.tree.lists()
    scores = turn.tree.scores
    return {
        "round": turn.index,
        "tokens": tokens,
        "parents": parents,
        "scores": None if scores is None else list(scores),
        "path": turn.verdict.path,
    }
