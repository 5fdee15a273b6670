"""``outpace tune``: what to decode with on this machine, predicted, measured, and kept."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import zoo
from ..errors import InvalidArgument
from .bench import names_in
from .files import writable, write_file
from .interrupt import INTERRUPTED
from .options import DRAFTER_DTYPE, DTYPE, a_number, a_text, a_whole
from .progress import progress
from .text import visible
from .tuning_tables import show_acceptance, show_candidates, show_costs
from .warm import RUNTIME, run_as

if TYPE_CHECKING:
    from ..bench.candidates import Source
    from ..bench.tuning import Tuning
    from ..drafters.shape import Shape
    from ..models import LanguageModel
    from .screen import Screen

LENGTHS = "1,2,3,4,5,6,8"
RECIPE = "outpace-recipe.toml"


def tune(
    target: Annotated[str, a_text("MODEL", "Model folder or hub name.")] = "zoo:target",
    drafter: Annotated[
        list[str] | None,
        a_text(
            "NAME",
            "A draft model or a method, as of generate; may be given several times. Default: the "
            "embedded drafter for the embedded target, prompt-lookup and suffix.",
        ),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        a_text(
            "NAMES",
            "What you write about, best a file of your own (.txt is one prompt, .jsonl has one a "
            "line); or wikitext, pg19, humaneval, spec-bench, hub:ORG/NAME … as of bench. "
            "Default: pg19,humaneval.",
        ),
    ] = None,
    data_dir: Annotated[
        str | None, a_text("DIR", "Folder of the evaluation texts; else data/ in OUTPACE_DATA.")
    ] = None,
    limit: Annotated[int, a_whole("Prompts of each workload at most.")] = 4,
    prompt_tokens: Annotated[int, a_whole("Length of a passage of pg19 or wikitext.")] = 128,
    max_new_tokens: Annotated[int, a_whole("New tokens of every text; EOS is ignored.")] = 128,
    temperature: Annotated[float, a_number("0 is greedy.")] = 0.0,
    lengths: Annotated[
        str, a_text("NUMBERS", "Draft lengths to look at, separated by commas.")
    ] = LENGTHS,
    tree: Annotated[
        list[str] | None,
        a_text(
            "SHAPE",
            "Trees of the draft models to look at; may be given several times. Default: sequoia, "
            "planned for the pair.",
        ),
    ] = None,
    goal: Annotated[
        str,
        a_text(
            "NAME",
            "speed: the fastest; memory: the least bytes that are no slower than plain decoding; "
            "balanced: the most tokens a second per byte. The last two look into cache policies.",
        ),
    ] = "speed",
    memory_limit: Annotated[
        str | None,
        a_text("SIZE", "Nothing that takes more: 4GB, 300MB (decimal), 4GiB (binary)."),
    ] = None,
    cache_policy: Annotated[
        list[str] | None,
        a_text(
            "POLICY",
            "Look into this cache policy too, as of generate; may be given several times. The text "
            "is approximate then. Default: those of the presets, where goal or limit ask for them.",
        ),
    ] = None,
    no_trees: Annotated[bool, typer.Option("--no-trees", help="Look at chains alone.")] = False,
    dtype: Annotated[str, a_text("NAME", DTYPE)] = "bfloat16",
    drafter_dtype: Annotated[str | None, a_text("NAME", DRAFTER_DTYPE)] = None,
    device: Annotated[str, a_text("NAME", "auto, cpu, cuda …")] = "auto",
    runtime: Annotated[str, a_text("NAME", f"{RUNTIME} Models are compiled first.")] = "auto",
    seed: Annotated[int, a_whole("Of the noise and of the order of measuring.")] = 0,
    recipe_file: Annotated[
        str, typer.Option("--recipe", metavar="OUT", help="Write the recipe here.")
    ] = RECIPE,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a recipe that is there.")
    ] = False,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="OUT", help="Write all figures here.")
    ] = None,
    color: Annotated[bool, typer.Option(help="Colours, on a terminal.")] = True,
) -> int:
    """Find out what to decode with here: predict, measure, and write a recipe."""
    from .screen import Screen, loading

    outputs = [writable(one) for one in (recipe_file, json_file) if one is not None]
    if len(set(outputs)) < len(outputs):
        raise InvalidArgument(f"--recipe and --json are one file ({json_file}): give two")
    if outputs[0].exists() and not force:
        raise InvalidArgument(
            f"{recipe_file} is there already: give --force to overwrite it, or --recipe another "
            "name"
        )
    config: dict[str, Any] = {
        "target": target,
        "drafters": _drafters(drafter or _usual(target)),
        "trees": _trees(tree, no_trees),
        "lengths": _lengths(lengths),
        "goal": goal,
        "memory_limit": memory_limit,
        "cache_policies": list(dict.fromkeys(cache_policy or ())),
        "prompts": names_in(prompts or ["pg19,humaneval"]),
        "data_dir": data_dir,
        "limit": limit,
        "prompt_tokens": prompt_tokens,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "dtype": dtype,
        "drafter_dtype": drafter_dtype,
        "device": device,
        "runtime": runtime,
        "seed": seed,
    }
    with loading(f"loading {target}"):
        tuning = _prepare(config)
    screen = Screen(sys.stdout, color=color)
    if not _run(tuning, screen):
        return INTERRUPTED
    from ..bench.advice import measured_table, recipe_of, sentence, warnings
    from ..recipe import Recipe

    place = str(tuning.target.device)
    base = Recipe(
        _place(target),
        dtype=dtype,
        drafter_dtype=drafter_dtype,
        device=place,
        runtime=tuning.target.runtime_name,
    )
    recipe = recipe_of(tuning, base)
    lost = []
    if json_file is not None:
        record = {**measured_table(tuning), **_costs(tuning), "config": config}
        record |= {"advice": sentence(tuning), "warnings": warnings(tuning)}
        lost += write_file(json_file, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    try:
        recipe.write(recipe_file)
    except OSError as error:
        lost.append(f"{recipe_file} ({error.strerror})")
    if lost:
        raise InvalidArgument(f"not written: {'; '.join(lost)}: give another place")
    screen.console.print(f"{recipe_file} is written: outpace generate --recipe {recipe_file} …")
    return 0


def _run(tuning: "Tuning", screen: "Screen") -> bool:
    """Take the steps and show what each has found; return whether all were taken."""
    from ..bench.advice import sentence, warnings

    if not screen.terminal:
        screen.console.width = 200  # nothing is gained by folding lines for a file
    interrupted = False
    try:
        with progress(tuning.price_steps, "steps") as notify:
            tuning.price(notify)
        show_costs(tuning, screen)
        with progress(tuning.trace_steps) as notify:
            tuning.trace(notify)
        show_acceptance(tuning, screen)
        with progress(tuning.measure_steps) as notify:
            tuning.measure(notify)
    except KeyboardInterrupt:
        interrupted = True
    if tuning.candidates:
        show_candidates(tuning, screen)
    if tuning.done:
        screen.console.print(sentence(tuning))
    if tuning.verifying:
        for warning in warnings(tuning):
            screen.console.print(f"warning: {visible(warning)}", style="yellow")
    if interrupted:
        print(
            f"outpace: interrupted: {tuning.done} of {len(tuning.prompts)} prompts are measured, "
            "no recipe is written",
            file=sys.stderr,
        )
    return not interrupted


def _prepare(config: dict[str, Any]) -> "Tuning":
    """Check everything, then load: loading may take minutes."""
    from ..bench import Models, Writing, fit_prompts, load_prompts
    from ..bench.tuning import Tuning
    from ..bench.weighing import Aim, aim_for, longest_prompt
    from ..cache import Session
    from ..cache.policies import make_policy
    from ..compose import drafter_by_name, make_shape
    from ..drafters.model import ModelDrafter
    from ..memory import parse_size
    from ..models import load
    from ..models.choosing import check_runtime
    from ..sampling import Sampling

    text = config["memory_limit"]
    limit = None if text is None else parse_size(text)
    Aim(config["goal"], limit)
    policies = [made for one in config["cache_policies"] if (made := make_policy(one))]
    if config["max_new_tokens"] < 2:
        raise InvalidArgument(
            f"{config['max_new_tokens']} new tokens: give 2 or more, the first one is the prefill's"
        )
    Sampling(temperature=config["temperature"], seed=config["seed"])
    check_runtime(config["runtime"])
    shapes = {text: make_shape(text) for text in config["trees"]}
    for name in config["drafters"]:
        drafter_by_name(name)
    data_dir = config["data_dir"]
    found = load_prompts(
        config["prompts"],
        data_dir=None if data_dir is None else Path(data_dir),
        limit=config["limit"],
        prompt_tokens=config["prompt_tokens"],
    )
    target = load(config["target"], dtype=config["dtype"], device=config["device"])
    sources = [one for name in config["drafters"] for one in _sources(name, target, config, shapes)]
    models = (model for one in sources for model in one.drafter.models)
    run_as([target, *dict.fromkeys(models)], config["runtime"])
    for source in sources:
        if type(source.drafter) is ModelDrafter:  # others measure when they meet the target
            source.drafter.attach(target)
    smallest = min(
        (model for source in sources for model in source.drafter.models),
        key=lambda model: model.context_length or sys.maxsize,
        default=None,
    )
    fitted, cut = fit_prompts(found, Models(target, smallest), config["max_new_tokens"])
    if cut:
        print(f"{cut} prompts are too long for the models: their end is used", file=sys.stderr)
    writing = Writing(config["max_new_tokens"], config["temperature"], config["seed"])
    _, tokens = longest_prompt(target.tokenizer, fitted)
    aim = aim_for(config["goal"], limit, policies, target, tokens, config["max_new_tokens"])
    for policy in aim.policies:
        Session(target, policy)  # what does not go with the target is refused now
    return Tuning(target, sources, fitted, writing, config["lengths"], aim)


def _sources(
    name: str,
    target: "LanguageModel",
    config: dict[str, Any],
    shapes: dict[str, "Shape | None"],
) -> list["Source"]:
    """Return a drafter, and where it is a model the trees it can draft."""
    from ..bench.candidates import Source
    from ..compose import make_drafter, model_drafter
    from ..drafters.model import ModelDrafter

    dtype = config["drafter_dtype"] or config["dtype"]
    made = make_drafter(name, dtype=dtype, device=config["device"])
    placed = _place(name)
    found = [Source(placed, made)]
    if type(made) is ModelDrafter:
        found += [Source(placed, model_drafter(made.model, shapes[one]), one) for one in shapes]
    return found


def _usual(target: str) -> list[str]:
    from ..compose import with_partner

    return [zoo.partner(target), "prompt-lookup", "suffix", with_partner("cascade", target)]


def _drafters(names: Sequence[str]) -> list[str]:
    if "none" in names:
        raise InvalidArgument(
            "drafter 'none' is plain decoding, which is always measured: leave it out"
        )
    return list(dict.fromkeys(names))


def _trees(given: Sequence[str] | None, none: bool) -> list[str]:
    if given and none:
        raise InvalidArgument(f"--tree {given[0]!r} with --no-trees: give one of them")
    return [] if none else list(dict.fromkeys(given or ["sequoia"]))


def _lengths(text: str) -> list[int]:
    from ..lengths.fixed import check_length

    numbers = names_in([text])
    if not numbers or not all(one.isascii() and one.isdigit() for one in numbers):
        raise InvalidArgument(f"--lengths {text!r}: give whole numbers, as in {LENGTHS}")
    lengths = sorted({int(one) for one in numbers})
    for length in lengths:
        check_length(length)
    return lengths


def _place(name: str) -> str:
    """Return a name that means the same from any folder."""
    return os.path.abspath(os.path.expanduser(name)) if os.path.isdir(name) else name


def _costs(tuning: "Tuning") -> dict[str, Any]:
    return {
        "threads": tuning.threads,
        "chosen_threads": tuning.chosen_threads,
        "verifying": tuning.verifying,
        "drafting": tuning.drafting,
    }
