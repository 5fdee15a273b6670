"""How a text longer than a window is read: which tokens are in view, which are scored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InvalidArgument, UnknownName
from ..models import LanguageModel

CONVENTIONS = ("tokens", "lm-eval")
LONGEST = 2048
"""Tokens of a window where none is asked for and the model could take more."""
WITHOUT_LIMIT = 1024
"""Tokens of a window of a model that sets no limit."""
HARNESS_WITHOUT_LIMIT = 2048
"""The same in lm-evaluation-harness."""


class Window(NamedTuple):
    """One forward over a part of a text.

    Attributes:
        begin: the first token that is read.
        first: the first one whose successor is scored.
        end: one past the last one that is read.
    """

    begin: int
    first: int
    end: int


def windows(count: int, window: int, stride: int) -> Iterator[Window]:
    """Yield the windows over a text in which ``count`` tokens have a successor.

    The first one scores all of its successors; each later one moves on by ``stride`` tokens, or
    by what is left, and scores those alone. So each successor is scored once, and those of all
    windows but the first have at least ``window - stride + 1`` tokens before them in view.
    """
    end = min(count, window)
    yield Window(0, 0, end)
    while end < count:
        first, end = end, min(count, end + stride)
        yield Window(end - window, first, end)


@dataclass(frozen=True, slots=True)
class Reading:
    """How texts are read.

    Attributes:
        convention: of :data:`CONVENTIONS`.
        window: tokens a forward reads.
        stride: tokens a window moves on by.
        bos: the token before every text; None where there is none.
        note: what must be known of the figures; None is nothing.
    """

    convention: str
    window: int
    stride: int
    bos: int | None
    note: str | None = None


def check_reading(
    window: int | None, stride: int | None, bos: bool | None, convention: str
) -> None:
    """Refuse what no model can be asked for.

    Raises:
        InvalidArgument: a value outside its range, or one that the convention settles.
        UnknownName: no such convention.
    """
    if convention not in CONVENTIONS:
        raise UnknownName(
            f"unknown convention {convention!r}: choose one of {', '.join(CONVENTIONS)}"
        )
    if convention == "lm-eval" and stride is not None:
        raise InvalidArgument(
            f"stride {stride} with the convention lm-eval, where it is the window: leave it out"
        )
    if convention == "lm-eval" and bos is False:
        raise InvalidArgument(
            "no BOS with the convention lm-eval, which has one before every text: leave --no-bos "
            "out, or take the convention tokens"
        )
    if window is not None and window < 2:
        raise InvalidArgument(f"a window of {window} tokens: give 2 or more")
    if stride is not None and stride < 1:
        raise InvalidArgument(f"stride {stride}: give 1 or more, at most the window")
    if window is not None and stride is not None and stride > window:
        raise InvalidArgument(
            f"stride {stride} is above the window of {window} tokens, so some would never be "
            f"read: give 1 to {window}"
        )


def reading(
    model: LanguageModel,
    *,
    window: int | None = None,
    stride: int | None = None,
    bos: bool | None = None,
    convention: str = "tokens",
) -> Reading:
    """Return how a model reads texts; arguments as :class:`~outpace.bench.perplexity.Scoring`'s.

    Raises:
        InvalidArgument: a value outside its range, or the model cannot read so.
        UnknownName: no such convention.
    """
    check_reading(window, stride, bos, convention)
    limit = model.context_length
    if convention == "lm-eval":
        window = window or limit or HARNESS_WITHOUT_LIMIT
        bos, stride = True, window
    else:
        window = window or (min(limit, LONGEST) if limit else WITHOUT_LIMIT)
        stride = stride or window // 2
    check_reading(window, stride if convention == "tokens" else None, bos, convention)
    return Reading(convention, window, stride, _bos(model, bos), _note(model, window))


def _bos(model: LanguageModel, wanted: bool | None) -> int | None:
    """Return the token before every text, BOS or else EOS."""
    tokenizer: Any = model.tokenizer
    if wanted is False:
        return None
    if wanted is None:
        whole = tokenizer("a")["input_ids"]
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
        return int(whole[0]) if len(whole) > len(bare) and whole[0] != bare[0] else None
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise InvalidArgument(
        f"the tokenizer of {model.name} has neither BOS nor EOS to put before a text: take the "
        "convention tokens without --bos"
    )


def _note(model: LanguageModel, window: int) -> str | None:
    limit = model.context_length
    if limit is None or window <= limit:
        return None
    # positions that are looked up in a table end where the table does
    if getattr(model.config, "rope_parameters", None) is None:
        raise InvalidArgument(
            f"a window of {window} tokens: {model.name} has positions for {limit}: give a window "
            f"of {limit} or less"
        )
    return (
        f"a window of {window} tokens is beyond the context of {model.name} ({limit}): it was not "
        f"trained at these positions, which raises the figure; a window of {limit} is fair"
    )
