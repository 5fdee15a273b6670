"""What a forward of a model costs here by its width, a staircase, and what a draft does."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from ..models import LanguageModel
from ..sampling import Pick
from ..types import TokenTree
from .session import Session

HELD = 128
"""Tokens before the round that is timed, where the model takes so many."""
ROUNDS, SECONDS = 7, 3.0
"""All are timed so often, or for so long where a forward is slow (but once at least)."""
LENGTHS = (1, 4)
"""Draft lengths that are timed: between them and beyond lies a line."""
FED = (1, 64)
"""Tokens a draft model is fed before it drafts one, likewise."""


def forward_costs(
    model: LanguageModel, *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[int, float]:
    """Return the seconds of a forward over each width of a round, the least of a few.

    Args:
        model: whose forwards.
        rounds: how often all widths are timed at most.
        seconds: after which no more are begun, but for the first.
    """
    session = Session(model)
    # the nodes of the round stand at the next two positions
    held = _hold(session, 2)
    trees = {width: _broad(width) for width in model.widths}
    if model.context_length is None or held + max(trees) <= model.context_length:
        trees = {width: TokenTree.chain(0, [0] * (width - 1)) for width in trees}

    def forward(width: int) -> None:
        session.forward(trees[width])[0, 0].item()  # waits for the device
        session.abandon()

    with model.attached():
        return _least(dict.fromkeys(trees, forward), rounds, seconds)


def draft_costs(
    model: LanguageModel, *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[int, float]:
    """Return the seconds of drafting :data:`LENGTHS` tokens in a row, the least of a few.

    Args:
        model: the draft model.
        rounds: how often all lengths are timed at most.
        seconds: after which no more are begun, but for the first.
    """
    return _drafts(model, {length: (1, length) for length in LENGTHS}, rounds, seconds)


def feed_costs(
    model: LanguageModel, *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[int, float]:
    """Return the seconds of drafting one token after :data:`FED` tokens, the least of a few.

    No logits but the last are computed on the way: it takes less than a forward of that width.

    Args:
        model: the draft model.
        rounds: how often both are timed at most.
        seconds: after which no more are begun, but for the first.
    """
    return _drafts(model, {tokens: (tokens, 1) for tokens in FED}, rounds, seconds)


def round_parts(
    target: LanguageModel,
    drafter: LanguageModel,
    lengths: Sequence[int],
    *,
    rounds: int = 15,
    seconds: float = 2 * SECONDS,
) -> tuple[dict[int, float], dict[int, float]]:
    """Return the seconds of a draft of each length and of the forward that verifies it, as medians.

    They are timed in the order they have in a round: each finds the processor's caches full of what
    the other model has read, and takes longer than after a forward of its own.

    Args:
        target: whose forward verifies.
        drafter: the draft model.
        lengths: draft tokens in a row, each 1 or more.
        rounds: how often all lengths are timed at most.
        seconds: after which no more are begun, but for the first.

    Returns:
        Seconds by length, and by width (one more than the length).
    """
    verifying, drafting = Session(target), Session(drafter)
    most = max(lengths) + 1
    _hold(verifying, most)
    held = _hold(drafting, most)
    times: dict[tuple[str, int], list[float]] = {}
    began = time.perf_counter()
    with target.attached(), drafter.attached():
        for turn in range(rounds + 1):
            for length in lengths:
                start = time.perf_counter()
                drafting.draft([0], length, Pick())[-1].item()
                drafted = time.perf_counter()
                verifying.forward(TokenTree.chain(0, [0] * length))[0, 0].item()
                done = time.perf_counter()
                drafting.rollback(held)
                verifying.abandon()
                if turn:  # the first one finds nothing ready
                    times.setdefault(("draft", length), []).append(drafted - start)
                    times.setdefault(("verify", length + 1), []).append(done - drafted)
            if turn and time.perf_counter() - began > seconds:
                break
    found: tuple[dict[int, float], dict[int, float]] = ({}, {})
    for (part, number), each in times.items():
        found[part == "verify"][number] = statistics.median(each)
    return found


def plain_forward(target: LanguageModel, *, rounds: int = 45, seconds: float = SECONDS) -> float:
    """Return the seconds of a forward over one token after another such forward, the median."""
    session = Session(target)
    _hold(session, 1)
    times: list[float] = []
    began = time.perf_counter()
    with target.attached():
        while len(times) <= rounds and (len(times) < 3 or time.perf_counter() - began < seconds):
            start = time.perf_counter()
            session.forward(TokenTree.chain(0, []))[0, 0].item()
            times.append(time.perf_counter() - start)
            session.abandon()
    return statistics.median(times[1:])


def _drafts(
    model: LanguageModel, drafts: Mapping[int, tuple[int, int]], rounds: int, seconds: float
) -> dict[int, float]:
    """Return the seconds of drafts, each of so many tokens fed and so many chosen."""
    session, most = Session(model), max(map(max, drafts.values()))
    if model.context_length is not None:
        most = max(1, min(most, model.context_length - 2))
    held = _hold(session, most)

    def draft(number: int) -> None:
        fed, length = (min(count, most) for count in drafts[number])
        session.draft([0] * fed, length, Pick())[-1].item()
        session.rollback(held)

    with model.attached():
        return _least(dict.fromkeys(drafts, draft), rounds, seconds)


def _hold(session: Session, positions: int) -> int:
    """Have a session hold some tokens, so that as many positions are left; return how many."""
    limit = session.model.context_length
    held = max(1, min(HELD, (limit or HELD + positions) - positions))
    session.prefill([0] * held, room=max(session.model.widths))
    return held


def _broad(width: int) -> TokenTree:
    return TokenTree.of([0] * width, [-1, *[0] * (width - 1)])


def _least(
    calls: Mapping[int, Callable[[int], None]], rounds: int, seconds: float
) -> dict[int, float]:
    """Return the least seconds of each call, timed in turn: a disturbance meets them all.

    Every call is made twice in a row and the second one timed: the first finds the caches full of
    what others have read, which rounds that follow each other do not.
    """
    costs, began = dict.fromkeys(calls, math.inf), time.perf_counter()
    for _ in range(rounds):
        for number, call in calls.items():
            call(number)
            before = time.perf_counter()
            call(number)
            costs[number] = min(costs[number], time.perf_counter() - before)
        if time.perf_counter() - began > seconds:
            break
    return costs
