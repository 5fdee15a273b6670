"""``outpace chat``: the command and its options; what is asked for is loaded, then talked to."""

import sys
from typing import Annotated, Any

import typer

from ..options import (
    CACHE_POLICY,
    DRAFTER_CACHE_POLICY,
    DRAFTER_DTYPE,
    DTYPE,
    a_number,
    a_text,
    a_whole,
)
from ..recipe import OF_A_RECIPE, PRESET, a_recipe, is_given, recipe_for
from ..warm import RUNTIME, say_notes


def chat(
    context: typer.Context,
    target: Annotated[str, a_text("MODEL", "Model folder or hub name.")] = "zoo:target",
    drafter: Annotated[
        str,
        a_text(
            "NAME",
            "A method (suffix, ngram, recycling …), a model folder or hub name; auto is "
            "prompt-lookup, but for the embedded target cascade with its drafter.",
        ),
    ] = "auto",
    recipe_file: Annotated[
        str | None, a_recipe("Decode as this file says; options given explicitly win.")
    ] = None,
    preset: Annotated[str | None, a_text("NAME", PRESET)] = None,
    method: Annotated[
        list[str] | None,
        a_text(
            "NAME",
            "Who answers: target, speculative, ngram, drafter; may be repeated. Default: "
            "speculative.",
        ),
    ] = None,
    tree: Annotated[
        str | None, a_text("SHAPE", "The draft model drafts token trees: best_first …")
    ] = None,
    draft_length: Annotated[
        str | None, a_text("N", "Draft tokens a round, or a controller. Default: gate.")
    ] = None,
    max_new_tokens: Annotated[int, a_whole("Tokens of an answer at most.")] = 256,
    temperature: Annotated[float, a_number("0 is greedy.")] = 0.0,
    top_k: Annotated[int | None, a_whole("Keep the N best tokens.")] = None,
    top_p: Annotated[float | None, a_number("Keep the fewest best with this sum.")] = None,
    repetition_penalty: Annotated[float, a_number("1 is none.")] = 1.0,
    seed: Annotated[int, a_whole("Of the sampling noise, before each answer.")] = 42,
    stop: Annotated[
        list[str] | None, a_text("TEXT", "End an answer before this text; may be repeated.")
    ] = None,
    system: Annotated[str, a_text("TEXT", "What the model is told before everything else.")] = "",
    load: Annotated[str | None, a_text("FILE", "Go on with a conversation from /save.")] = None,
    template: Annotated[
        bool | None,
        typer.Option(
            "--template/--no-template",
            help="Go by the tokenizer's chat template, or go on with one text. Default: the "
            "template, if there is one.",
        ),
    ] = None,
    verifier: Annotated[
        str, a_text("NAME", "coupled, rejection, sequoia (trees) or block (chains).")
    ] = "coupled",
    dtype: Annotated[str, a_text("NAME", DTYPE)] = "bfloat16",
    drafter_dtype: Annotated[str | None, a_text("NAME", DRAFTER_DTYPE)] = None,
    cache_policy: Annotated[str | None, a_text("POLICY", CACHE_POLICY)] = None,
    drafter_cache_policy: Annotated[str | None, a_text("POLICY", DRAFTER_CACHE_POLICY)] = None,
    device: Annotated[str, a_text("NAME", "auto, cpu, cuda …")] = "auto",
    runtime: Annotated[str, a_text("NAME", RUNTIME)] = "auto",
    history: Annotated[
        bool, typer.Option("--history/--no-history", help="Keep what was typed between runs.")
    ] = True,
    color: Annotated[bool, typer.Option(help="Colours, on a terminal.")] = True,
) -> int:
    """Talk to a model: each answer with its speed, several methods side by side if you like.

    On a terminal, /help lists the commands. From a pipe every line is a message or a command.
    """
    from ..screen import Screen, loading
    from .lines import lines_from
    from .talk import Talk

    sampling: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
    }
    with loading("getting ready") as say:
        from ...chat import Chat, Conversation, Methods
        from ...chat.methods import check_method
        from ...recipe import Recipe
        from ...sampling import Sampling
        from ...stopping import check_ends
        from .loader import Loader

        for name in method or ():
            check_method(name)
        law = Sampling(**sampling)
        check_ends(max_new_tokens, stop or ())
        said = Conversation(system) if load is None else Conversation.read(load)
        if load is not None and is_given(context, "system"):
            said = Conversation(system, said.exchanges)
        recipe = recipe_for(context, recipe_file, preset, OF_A_RECIPE)
        if recipe is None:
            given = {name: context.params[name] for name in OF_A_RECIPE}
            recipe = Recipe(**given)
        loader = Loader(say)
        made = Chat(
            Methods(recipe, load=loader),
            sampling=law,
            length=max_new_tokens,
            stop=stop or (),
            template=template,
        )
        made.conversation = said
        made.enable(method or ["speculative"])
    say_notes(made.methods.models)
    screen, notes = Screen(sys.stdout, color=color), Screen(sys.stderr, color=color)
    lines = lines_from(notes, keep=history)
    return Talk(made, loader, screen, notes, lines).run()
