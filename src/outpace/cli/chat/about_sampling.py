"""Commands about how tokens are chosen, and how many."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from ...errors import InvalidArgument
from ...registry import unknown_among
from .slash import Command, whole_number

if TYPE_CHECKING:
    from ...sampling import Sampling
    from .talk import Talk

PROCESSORS: Mapping[str, Sequence[str]] = {
    "greedy": (),
    "multinomial": ("temperature",),
    "topk": ("temperature", "top_k"),
    "nucleus": ("temperature", "top_p"),
    "topknucleus": ("temperature", "top_k", "top_p"),
    "minp": ("temperature", "min_p"),
    "typical": ("temperature", "typical_p"),
}
"""Names and what follows them."""
_WHOLE = {"top_k", "no_repeat_ngram_size"}
_BESIDE = ("repetition_penalty", "no_repeat_ngram_size")
"""What goes with any processor, as NAME=VALUE; it stays if it is not given."""
_NAMES = (*PROCESSORS, *(f"{name}=" for name in _BESIDE))


def law(sampling: "Sampling") -> str:
    """Return how tokens are chosen, in words."""
    parts = ["greedy" if sampling.greedy else f"temperature {sampling.temperature:g}"]
    for one in fields(sampling):
        value = getattr(sampling, one.name)
        if one.name not in {"temperature", "seed"} and value not in (one.default, ()):
            parts.append(f"{one.name} {value:g}")
    return ", ".join(parts)


def _processor(talk: "Talk", rest: str) -> None:
    if not rest:
        talk.note(f"tokens are chosen: {law(talk.chat.sampling)}")
        return
    name, *given = rest.split()
    known = name.lower().replace("-", "").replace("_", "").replace("+", "")
    if known not in PROCESSORS:
        raise InvalidArgument(unknown_among("processor", name, tuple(PROCESSORS)))
    positional = [value for value in given if "=" not in value]
    order = PROCESSORS[known]
    usage = " ".join(["/processor", known, *(one.upper() for one in order)])
    if len(positional) > len(order):
        raise InvalidArgument(f"/processor {rest}: give {usage}")
    values: dict[str, Any] = dict(zip(order, positional, strict=False))
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals:
            continue
        if key not in (*order, *_BESIDE):
            raise InvalidArgument(unknown_among(f"setting of {known}", key, (*order, *_BESIDE)))
        values[key] = value
    lacking = [one for one in order if one not in values]
    if lacking:
        raise InvalidArgument(f"/processor {rest}: {lacking[0]} is missing: give {usage}")
    settings = {key: _number(key, value) for key, value in values.items()}
    now = talk.chat.sampling
    kept = {name: getattr(now, name) for name in (*_BESIDE, "seed")}
    talk.chat.sampling = type(now)(**{**kept, **settings})
    talk.note(f"tokens are chosen: {law(talk.chat.sampling)}")


def _number(name: str, given: str) -> float:
    try:
        return int(given) if name in _WHOLE else float(given)
    except ValueError:
        kind = "a whole number" if name in _WHOLE else "a number"
        raise InvalidArgument(f"{name} {given!r}: give {kind}") from None


def _temperature(talk: "Talk", rest: str) -> None:
    if rest:
        number = _number("temperature", rest)
        talk.chat.sampling = replace(talk.chat.sampling, temperature=number)
    talk.note(f"tokens are chosen: {law(talk.chat.sampling)}")


def _seed(talk: "Talk", rest: str) -> None:
    if rest.lower() == "none":
        talk.chat.sampling = replace(talk.chat.sampling, seed=None)
    elif rest:
        number = whole_number(rest, "seed", 42)
        talk.chat.sampling = replace(talk.chat.sampling, seed=number)
    seed = talk.chat.sampling.seed
    talk.note("seed: another one for each answer" if seed is None else f"seed: {seed}")


def _length(talk: "Talk", rest: str) -> None:
    from ...stopping import check_ends

    if rest:
        number = whole_number(rest, "length", 256)
        check_ends(number, ())
        talk.chat.length = number
    talk.note(f"tokens of an answer at most: {talk.chat.length}")


COMMANDS = (
    Command("length", "N", "tokens of an answer at most", _length),
    Command("temperature", "X", "0 is greedy", _temperature),
    Command(
        "processor",
        "NAME ARGS…",
        "greedy · multinomial T · topk T K · nucleus T P · topknucleus T K P · minp T P · "
        "typical T P, each with repetition_penalty=X",
        _processor,
        _NAMES,
    ),
    Command("seed", "N", "set before each answer; none draws one", _seed, ("none",)),
)
