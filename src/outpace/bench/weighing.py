"""What a tuning aims at besides speed: bytes, counted from storages, and a limit to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

from torch import nn

from ..cache.policies import CachePolicy
from ..errors import InvalidArgument, UnknownName
from ..memory import size_text, target_slots
from ..models import LanguageModel
from ..models.footprint import footprint
from ..models.outline import slot_bytes
from ..models.probe import layer_shapes
from ..presets import PRESETS, fitted
from .workloads import BenchPrompt

SPEED, MEMORY, BALANCED = GOALS = ("speed", "memory", "balanced")
"""The fastest; the least bytes that are no slower than plain decoding; the fastest per byte."""

OVER = "over the limit"
"""Why a candidate that takes too much is not measured."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What is looked for.

    Attributes:
        goal: one of :data:`GOALS`.
        limit: bytes that may be taken at most; None is any number.
        policies: cache policies that are looked into.
        asked: whether these were asked for, so that an approximate text is welcome.

    Raises:
        UnknownName: no such goal.
    """

    goal: str = SPEED
    limit: int | None = None
    policies: Sequence[CachePolicy] = ()
    asked: bool = False

    def __post_init__(self) -> None:
        if self.goal not in GOALS:
            near = get_close_matches(self.goal, GOALS, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise UnknownName(f"unknown goal {self.goal!r}{hint}: choose one of {', '.join(GOALS)}")

    @property
    def weighs(self) -> bool:
        """Whether bytes have a part in it, or policies."""
        return self.goal != SPEED or self.limit is not None or bool(self.policies)

    def allows(self, nbytes: int) -> bool:
        """Return whether so many bytes may be taken."""
        return self.limit is None or nbytes <= self.limit


def aim_for(
    goal: str,
    limit: int | None,
    asked: Sequence[CachePolicy],
    target: LanguageModel,
    tokens: int,
    new_tokens: int,
) -> Aim:
    """Return what is looked for with a target on texts of a length.

    Policies that are asked for are looked into; without any, those of the presets, where the goal
    is not speed, or the whole cache is over the limit.

    Args:
        goal: one of :data:`GOALS`.
        limit: bytes that may be taken at most.
        asked: cache policies that are asked for.
        target: the model whose text is written.
        tokens: of the longest prompt.
        new_tokens: that are written.

    Raises:
        InvalidArgument: not even the least of plain decoding is within the limit.
    """
    bare = Aim(goal, limit)
    if not bare.weighs:
        return Aim(goal, limit, tuple(asked), bool(asked))
    weights = target.weight_bytes
    slot = slot_bytes(layer_shapes(target), target.dtype.itemsize)

    def plain(policy: CachePolicy | None = None) -> int:
        return weights + slot * target_slots(tokens, new_tokens, policy)

    policies = tuple(asked)
    if not asked and (goal != SPEED or not bare.allows(plain())):
        policies = tuple(usual_policies(target.context_length, tokens, new_tokens))
    least = min(plain(policy) for policy in (None, *policies))
    if not bare.allows(least):
        raise over(limit, least, "plain decoding that forgets" if policies else "plain decoding")
    return Aim(goal, limit, policies, bool(asked))


def usual_policies(context: int | None, tokens: int, new_tokens: int) -> list[CachePolicy]:
    """Return the policies of the presets, as they fit a model, that save slots of such texts."""
    found: list[CachePolicy] = []
    for preset in PRESETS.values():
        if preset.policy is None:
            continue
        with suppress(InvalidArgument):  # too few positions for it
            policy = fitted(preset.policy, context)
            saves = target_slots(tokens, new_tokens, policy) < target_slots(tokens, new_tokens)
            found += [policy] if saves and policy not in found else []
    return found


def over(limit: int | None, least: int, name: str) -> InvalidArgument:
    """Return the error that nothing is within a limit."""
    assert limit is not None
    # rounded up, so that what is read here is enough
    return InvalidArgument(
        f"a memory limit of {size_text(limit)}: the least is {name}, {least:,} bytes: give "
        f"--memory-limit {-(-least // 1_000_000)}MB or more, a smaller target, or --dtype int8"
    )


def weight_bytes(models: Iterable[LanguageModel]) -> int:
    """Return the bytes of the weights of several models, what they share once."""
    return footprint(nn.ModuleList([cast(Any, model.model) for model in models]))


def longest_prompt(tokenizer: Any, prompts: Sequence[BenchPrompt]) -> tuple[int, int]:
    """Return which prompt is the longest, and how many tokens its first text has."""
    sizes = [
        sum(len(tokenizer(text)["input_ids"]) for text in (one.text, *one.turns)) for one in prompts
    ]
    place = max(range(len(prompts)), key=sizes.__getitem__)
    return place, len(tokenizer(prompts[place].text)["input_ids"])
