"""Presets: recipes for short texts, long ones, and little memory, fitted to the models."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import torch

from .cache.policies.streaming import StreamingPolicy
from .cache.slots import SPARE
from .compose import drafter_by_name, with_its_model, with_partner
from .errors import InvalidArgument, UnknownName
from .models.load import context_of, resolve_device
from .models.outline import half
from .recipe import Recipe

_OWN = "drafter_cache_policy"
LEAST = 32
"""Recent tokens below which a streaming cache is refused rather than made to fit a model."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Values of a recipe that go together.

    Attributes:
        name: as it is asked for.
        about: what it is for.
        draft_length: draft tokens a round.
        dtype: of the weights; None is float16, or bfloat16 on a CPU.
        compiled: whether forwards are compiled on a GPU too, where otherwise they are captured.
        policy: what target and draft model forget; None is nothing.
    """

    name: str
    about: str
    draft_length: int
    dtype: str | None = None
    compiled: bool = False
    policy: StreamingPolicy | None = None

    def recipe(
        self,
        target: str = "zoo:target",
        drafter: str = "none",
        *,
        device: torch.device,
        context: int | None = None,
        drafter_context: int | None = None,
        drafts: bool = False,
    ) -> Recipe:
        """Return the preset as a recipe; nothing is loaded or looked up.

        Args:
            target: a model by name.
            drafter: a drafter by name.
            device: where they run.
            context: how many positions the target has; None is any number.
            drafter_context: likewise of the draft model.
            drafts: whether the drafter is a draft model, which can forget too.

        Raises:
            InvalidArgument: a model with too few positions for a policy of the preset.
        """
        policies: list[str | None] = [None, None]
        if self.policy is not None:
            policies[0] = str(fitted(self.policy, context, f"preset {self.name}: {target}"))
            if drafts:
                where = f"preset {self.name}: {drafter}"
                policies[1] = str(fitted(self.policy, drafter_context, where))
        return Recipe(
            target,
            drafter,
            draft_length=self.draft_length,
            dtype=self.dtype or half(device),
            device=str(device),
            runtime="compile" if self.compiled and device.type == "cuda" else "auto",
            cache_policy=policies[0],
            drafter_cache_policy=policies[1],
        )


PRESETS: Mapping[str, Preset] = {
    one.name: one
    for one in (
        Preset("short", "short texts", 5, compiled=True),
        Preset("long", "long texts at constant memory", 4, policy=StreamingPolicy(4, 1020)),
        Preset("balanced", "texts of any length", 4, policy=StreamingPolicy(4, 508)),
        Preset("least-memory", "the least memory", 3, "int8", policy=StreamingPolicy(4, 252)),
    )
}
"""All presets by name."""


def preset(name: str) -> Preset:
    """Return the preset of a name.

    Raises:
        UnknownName: there is none.
    """
    if name not in PRESETS:
        near = get_close_matches(name, PRESETS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UnknownName(f"unknown preset {name!r}{hint}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def fitted(policy: StreamingPolicy, context: int | None, where: str = "") -> StreamingPolicy:
    """Return a streaming policy with as many recent tokens as fit a context, at most its own.

    A block and a draft have to fit beside what is kept.

    Args:
        policy: what is wanted.
        context: how many positions the model has; None is any number.
        where: whom a refusal is about.

    Raises:
        InvalidArgument: fewer than :data:`LEAST` would be left.
    """
    if context is None or needed(policy) <= context:
        return policy
    for recent in range(min(policy.recent, context), LEAST - 1, -1):
        smaller = replace(policy, recent=recent)
        if needed(smaller) <= context:
            return smaller
    least = needed(replace(policy, recent=LEAST))
    raise InvalidArgument(
        f"{where} has {context} positions, {policy} needs {least} even if it is made smaller: "
        "give --cache-policy full (and --drafter-cache-policy full), or another model"
    )


def needed(policy: StreamingPolicy) -> int:
    """Return how many positions a policy needs: what is kept, a block and the widest draft."""
    return policy.size + policy.block + SPARE


def preset_recipe(
    name: str,
    target: str = "zoo:target",
    drafter: str = "auto",
    *,
    device: str = "auto",
    given: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return a preset as a recipe for models by name, which are looked up and not loaded.

    Args:
        name: of the preset.
        target: a model folder, a hub name, or an embedded model.
        drafter: as in :meth:`Decoder.from_pretrained`.
        device: where they run; ``auto`` is the GPU if there is one.
        given: other parts of the recipe, which win.

    Raises:
        OutpaceError: no such preset, model or drafter, or a policy that does not fit.
    """
    chosen, parts = preset(name), dict(given or {})
    drafter = with_partner(
        os.fspath(drafter),
        target,
        draft_length=chosen.draft_length,  # or a tree, which is as much a question of its own
        verifier=parts.get("verifier", "coupled"),
    )
    drafts = with_its_model(drafter) is None and drafter_by_name(drafter) is None
    forgets = chosen.policy is not None
    context = context_of(target) if forgets and "cache_policy" not in parts else None
    own = context_of(drafter) if forgets and drafts and _OWN not in parts else None
    made = chosen.recipe(
        target,
        drafter,
        device=resolve_device(device),
        context=context,
        drafter_context=own,
        drafts=drafts,
    )
    parts.pop("drafter", None)  # it is in it already, by the name it goes by
    return made.but(**parts)


def notes(name: str, recipe: Recipe, given: Collection[str] = ()) -> list[str]:
    """Return in words what is other than in a preset because of the models and the device.

    Args:
        name: of the preset.
        recipe: what was made of it.
        given: parts that were asked for, of which nothing is to be said.
    """
    chosen, found = preset(name), []
    if chosen.dtype is None and "dtype" not in given and recipe.dtype == "bfloat16":
        found.append(f"preset {name}: bfloat16, since a CPU does not compute in float16")
    for part, model in (("cache_policy", recipe.target), (_OWN, recipe.drafter)):
        policy = getattr(recipe, part)
        if part not in given and policy not in {None, str(chosen.policy)}:
            found.append(
                f"preset {name}: {policy} in place of {chosen.policy}, to fit the context of "
                f"{model}"
            )
    return found
