"""What to measure: methods from their names."""

from collections.abc import Sequence

from .. import registry
from ..calls import is_call
from ..compose import drafter_by_name, with_its_model
from ..drafters.suffix import SuffixDrafter
from ..errors import InvalidArgument, UnknownName
from ..lengths.fixed import DEFAULT_LENGTH, check_length
from ..recipe import GATE
from . import beam
from .baselines import Assisted, HuggingFace, PromptLookup, TunedAssisted, cannot_assist
from .loop import Loop
from .methods import Method, Models
from .names import (
    in_precision,
    names_a_model,
    policies_of,
    tree_of,
    with_length,
    with_policy,
)
from .precisions import models_of

BASELINES = ("hf", "hf-compiled", "hf-assisted", "hf-assisted-tuned", "hf-prompt-lookup")
ALIASES = {"plain": "none", "draft": "model"}
"""Drafters by the names of their methods here."""
RECIPES = ("recipe", "preset")
"""The methods that run a recipe, where there is one: of a file, or of a preset."""


def method_names() -> list[str]:
    """Return the names of all methods, the baselines first."""
    shown = {drafter: alias for alias, drafter in ALIASES.items()}
    drafters = (shown.get(name, name) for name in registry.names("drafter"))
    return [*BASELINES, *reversed(beam.NAMES), *drafters]


def check_methods(names: Sequence[str], temperature: float = 0.0) -> list[str]:
    """Return the names to run: each once, none unknown, what they are compared with added.

    That is ``hf``, whose speed the others are measured against, for sampled text ``plain``, for
    ``beam`` transformers' own beam search, and for a method in another precision, or whose target
    forgets, plain decoding in that precision, or forgetting the same.

    Args:
        names: of methods.
        temperature: 0 is greedy.

    Raises:
        UnknownName: no such method.
        InvalidArgument: none at all, a length for a method that has none, or beams that sample.
    """
    asked = list(dict.fromkeys(name for name in names if name))
    if not asked:
        raise InvalidArgument(f"no methods: give one or more of {', '.join(method_names())}")
    for name in asked:
        plain, policy_given = with_policy(name)
        method, length = with_length(plain)
        tree = tree_of(method)
        beams = beam.is_beam(method)
        if beams:
            beam.beams_of(method)
        elif is_call(method):
            called = method.partition("(")[0].strip()
            if called in {*BASELINES, *ALIASES, *RECIPES}:
                raise InvalidArgument(
                    f"method {name!r}: {called} takes no settings: leave them out"
                )
            made = drafter_by_name(method)
            if isinstance(made, SuffixDrafter) and made.file is not None:
                raise InvalidArgument(
                    f"method {name!r}: the benchmark forgets every text before the next one, a "
                    "file to keep them has no use: leave keep out"
                )
        elif not (tree or method in {*method_names(), *RECIPES} or _with_model(method)):
            known = registry.unknown_among("method", method, method_names())
            raise UnknownName(f"{known}; or give a draft model's folder or zoo:SIZE")
        alone = {"hf", "hf-compiled", "hf-assisted-tuned", "plain", *RECIPES}
        if length is not None and (tree or beams or method in alone or not length):
            raise InvalidArgument(f"method {name!r}: {method} takes no draft length after '@'")
        if length is not None and isinstance(number := _number(length), int):
            check_length(number)
        if policy_given is not None and (beams or method in {*BASELINES, *RECIPES}):
            raise InvalidArgument(
                f"method {name!r}: {method} takes no cache policy: leave 'with …' out"
            )
        if (beams or method in RECIPES) and in_precision(name)[1] is not None:
            raise InvalidArgument(
                f"method {name!r}: {method} runs in the dtype of all: leave 'in …' out"
            )
        if temperature and beams:
            raise InvalidArgument(f"method {name!r} with temperature {temperature}: give 0")
    needed = ["hf", "plain"] if temperature else ["hf"]
    needed += [beam.counterpart(name) for name in asked if beam.is_ours(name)]
    needed += [own for name in asked if (own := plain_in(name)) is not None]
    names = [*dict.fromkeys(name for name in needed if name not in asked), *asked]
    return sorted(names, key=lambda name: name != "hf")  # the baseline first, the rest as they are


def plain_in(name: str) -> str | None:
    """Return plain decoding with the target's cache policy and precision that a name says.

    None where it says neither.
    """
    _, target, _ = in_precision(name)
    policy = policies_of(name)[0]
    if policy == "full":
        policy = None
    if target is None and policy is None:
        return None
    kept = "" if policy is None else f" with {policy}"
    return f"plain{kept}" + ("" if target is None else f" in {target}")


def _with_model(method: str) -> bool:
    return names_a_model(method) or with_its_model(method) is not None


def that_run(names: Sequence[str], models: Models) -> tuple[list[str], str | None]:
    """Return the names that can run on a pair, and why others cannot."""
    assisted = [name for name in names if name.startswith("hf-assisted")]
    why = cannot_assist(models) if assisted and models.drafter is not None else None
    if why is None:
        return list(names), None
    return [
        name for name in names if name not in assisted
    ], f"left out {', '.join(assisted)}: {why}"


def make_method(name: str, models: Models, draft_length: int | str) -> Method:
    """Return a method from ``NAME`` or ``NAME@LENGTH``; a draft model's name is one too.

    ``NAME in DTYPE``, or ``in DTYPE/DTYPE`` for target and draft model, runs copies of the models
    in these precisions. Transformers' own methods draft the same number of tokens every round;
    where the draft length is a controller, they take the default number.

    Raises:
        OutpaceError: a length, a draft model or a precision that cannot be used.
    """
    own = models_of(name, models)
    made = _make(name, own, draft_length)
    forgets = policies_of(name)[0] not in {None, "full"}
    if own.target is not models.target or forgets:  # either has another text
        made.compared_with = made.compared_with or plain_in(name)
    return made


def _make(name: str, models: Models, draft_length: int | str) -> Method:
    method, own = with_length(name)
    length = _number(own or draft_length)
    if method in RECIPES:
        return _recipe(name, models)
    if beam.is_beam(method):
        return (beam.Beam if beam.is_ours(method) else beam.HuggingFaceBeam)(name, models)
    if method not in BASELINES:
        return Loop(name, models, length)
    if method == "hf":
        return HuggingFace(name, models)
    if method == "hf-compiled":
        from .compiled import Compiled  # torch's compiler takes a second to import

        return Compiled(name, models)
    if method == "hf-assisted-tuned":
        return TunedAssisted(name, models)
    if not isinstance(length, int):
        if own:
            raise InvalidArgument(f"method {name!r}: transformers takes a number of draft tokens")
        length = DEFAULT_LENGTH
    check_length(length)
    kind = Assisted if method == "hf-assisted" else PromptLookup
    return kind(name, models, length)


def _recipe(name: str, models: Models) -> Loop:
    recipe, drafter = models.recipe, models.drafter
    if recipe is None:
        raise InvalidArgument(f"method {name!r}: there is no recipe: give one, or leave it out")
    # a copy in few bits is named after its model: zoo:small (int8)
    same = drafter is not None and drafter.name.partition(" (")[0] == recipe.drafter
    decoder = recipe.decoder(target=models.target, drafter=drafter if same else None)
    length = GATE if recipe.draft_length is None else recipe.draft_length
    return Loop(name, models, length, decoder)


def _number(length: int | str) -> int | str:
    """Return the number a draft length is, or the name of a controller."""
    try:
        return int(length)
    except ValueError:
        return length
