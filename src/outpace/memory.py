"""How many bytes a recipe takes, by the models' configurations alone: nothing is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .cache.policies import CachePolicy, make_policy
from .cache.room import slots_for
from .compose import drafter_by_name, with_its_model
from .errors import InvalidArgument
from .lengths.fixed import DEFAULT_LENGTH
from .models.load import resolve_device
from .models.outline import Outline, width_of
from .models.runtime import EagerRuntime, width_for
from .recipe import Recipe

WIDEST = 64
"""Slots the loop asks for beyond the text: the widest round."""
AHEAD = 4096
"""New tokens it asks for slots of at once."""
DRAFTED = 256
"""Slots a draft model asks for beyond a prompt; later ones are made when they are needed."""
UNITS = {"": 1, "B": 1} | {
    f"{prefix}{kind}": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for kind, base in (("B", 1000), ("iB", 1024))
}
"""Bytes of a unit: decimal ones, and binary ones with an i."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes, part by part.

    Attributes:
        weights: of the target.
        drafter_weights: of the draft model; 0 without one.
        kv: keys and values of the target at the end of the text.
        drafter_kv: likewise of the draft model.
        activations: of the widest forward, an estimate.
        loading: weights at the highest point of loading: a low precision is made on the device from
            bfloat16, which takes more than what comes of it.
    """

    weights: int
    drafter_weights: int
    kv: int
    drafter_kv: int
    activations: int
    loading: int

    @property
    def most(self) -> int:
        """What has to be there: for all parts, or for loading."""
        return max(self.total, self.loading)

    @property
    def total(self) -> int:
        """All parts but what loading takes."""
        return self.weights + self.drafter_weights + self.kv + self.drafter_kv + self.activations


def needs(
    recipe: Recipe,
    tokens: int,
    new_tokens: int,
    *,
    place: str | None = None,
    target: Outline | None = None,
    drafter: Outline | None = None,
) -> Needs:
    """Return what a recipe takes to go on from a prompt.

    Weights and keys and values are those of the storages, to the byte, where models are loaded as
    they are; graphs, compiled code, and what the device's own libraries take come on top.

    Args:
        recipe: what is asked for.
        tokens: of the prompt.
        new_tokens: that are written.
        place: ``cpu`` or ``cuda``; None is where the recipe says, if that is here.
        target: its outline, where it is known already.
        drafter: likewise that of the draft model.

    Raises:
        OutpaceError: a model or a name that cannot be used.
    """
    place = place or resolve_device(recipe.device).type
    target = target or Outline.of(recipe.target)
    name = draft_model(recipe.drafter) if drafter is None else drafter.name
    if name is not None:
        drafter = drafter or Outline.of(name)
    policy, own_policy = make_policy(recipe.cache_policy), make_policy(recipe.drafter_cache_policy)
    own = recipe.drafter_dtype or recipe.dtype
    length = recipe.draft_length if isinstance(recipe.draft_length, int) else DEFAULT_LENGTH
    slots = target_slots(tokens, new_tokens, policy)
    widest = [activations(target, recipe.dtype, tokens, length, policy, slots)]
    weights = kv = 0
    own_weights = target.weight_bytes(recipe.dtype, place)
    loading = target.loading_bytes(recipe.dtype, place)
    if drafter is not None and name is not None:
        own_slots = drafter_slots(tokens, new_tokens, own_policy)
        weights, kv = drafter.weight_bytes(own, place), own_slots * drafter.slot_bytes(own)
        loading = max(loading, own_weights + drafter.loading_bytes(own, place))
        widest.append(activations(drafter, own, tokens, 0, own_policy, own_slots))
    return Needs(
        own_weights,
        weights,
        slots * target.slot_bytes(recipe.dtype),
        kv,
        max(widest),
        loading,
    )


def draft_model(drafter: str) -> str | None:
    """Return the draft model that the name of a drafter says; None where it drafts without one."""
    own = with_its_model(drafter)
    if own is not None:
        return own[1]
    return None if drafter == "auto" or drafter_by_name(drafter) is not None else drafter


def target_slots(tokens: int, new_tokens: int, policy: CachePolicy | None = None) -> int:
    """Return how many slots the target's session has for a text."""
    return slots_for(tokens, min(new_tokens, AHEAD) + WIDEST, policy)


def drafter_slots(tokens: int, new_tokens: int, policy: CachePolicy | None = None) -> int:
    """Return how many slots a draft model's session has at the end of a text."""
    return slots_for(tokens, max(DRAFTED, new_tokens), policy)


def activations(
    model: Outline, dtype: str, tokens: int, length: int, policy: CachePolicy | None, slots: int
) -> int:
    """Return about how many bytes the widest forward needs beside weights, keys and values.

    That is the larger of a part of the prompt (four rows of the residual stream's width, three of
    the feed-forward's, and the mask) and of a round (its scores in float32, with noise and sum).

    Args:
        model: what runs.
        dtype: of its weights.
        tokens: of the prompt.
        length: draft tokens of a round.
        policy: what is forgotten; a prompt is read up to where that happens.
        slots: that a forward reads.
    """
    rows = next((chunk for chunk in EagerRuntime.chunks if chunk <= tokens), tokens)
    if policy is not None and policy.size is not None:
        rows = min(rows, policy.size + policy.block)
    width = width_of(dtype)
    prompt = rows * (width * (4 * model.hidden + 3 * model.inner) + (1 + width) * slots)
    return max(prompt, 12 * width_for(length + 1) * model.vocabulary)


def parse_size(text: str) -> int:
    """Return the bytes of a size: ``4GB`` and ``300MB`` are decimal, ``4GiB`` is binary.

    Raises:
        InvalidArgument: no number above 0 with such a unit.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    units = {name.lower(): size for name, size in UNITS.items()}
    size = 0
    if found is not None and found[2].lower() in units:
        size = int(float(found[1]) * units[found[2].lower()])
    if size < 1:
        raise InvalidArgument(
            f"size {text!r}: give a number and a unit, as in 4GB or 300MB (decimal), 4GiB or "
            "300MiB (binary)"
        )
    return size


def size_text(nbytes: float) -> str:
    """Return a number of bytes as people read it, in decimal units."""
    for unit, base in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= base:
            return f"{nbytes / base:.2f} {unit}"
    return f"{nbytes:.0f} B"
