"""What a tuning says: what to use and why, what to beware of, and the recipe of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ..memory import size_text
from ..recipe import GATE, Recipe
from .candidates import Candidate
from .environment import environment
from .measured import PLAIN
from .metrics import LOOPING, repeated_8gram_share
from .record import FEW
from .tuning import Tuning
from .weighing import MEMORY, OVER, SPEED
from .workloads import prompts_hash

NEAR = 0.97
"""The gate is advised where it reaches this share of the fastest: it copes with other texts too."""
SLOW = 0.5
"""A drafter whose forward takes more than this share of the target's rarely pays."""
OFF = 0.1
"""A prediction that misses the measured gain by more is worth a warning."""


def advised(tuning: Tuning) -> Candidate:
    """Return the candidate to use, by the aim of the tuning.

    For speed: plain decoding unless another one is faster for sure. For memory: the least bytes of
    what is not slower than plain decoding. Balanced: of these the most tokens a second per byte.
    What is over a limit of memory is never advised; approximate texts are for speed only where they
    were asked for, or nothing else is within the limit.
    """
    pool = _eligible(tuning)
    if tuning.aim.goal == SPEED:
        return _fastest(tuning, pool)
    kept = [one for one in pool if keeps_up(tuning, one)] or pool
    if tuning.aim.goal == MEMORY:
        return min(
            kept,
            key=lambda one: (tuning.nbytes[one.name], not one.exact, -tuning.measured(one.name)),
        )
    return max(kept, key=lambda one: tuning.measured(one.name) / tuning.nbytes[one.name])


def _eligible(tuning: Tuning) -> list[Candidate]:
    """Return what may be advised."""
    aim = tuning.aim
    found = [
        one
        for one in filter(_in_a_recipe, tuning.candidates)
        if not aim.weighs or aim.allows(tuning.nbytes[one.name])
    ]
    exact = [one for one in found if one.policy is None]
    return exact if exact and aim.goal == SPEED and not aim.asked else found


def _fastest(tuning: Tuning, pool: Sequence[Candidate]) -> Candidate:
    """Return plain decoding, unless another one is faster for sure."""
    alone = [one for one in pool if one.source is None]
    plain = alone[0] if alone and alone[0].policy is None else _by_speed(tuning, alone or pool)
    best = _by_speed(tuning, pool)
    gain = tuning.gain(best.name)
    if best.source is None or (gain.value if gain.low is None else gain.low) <= 1.0:
        return plain
    gated = [
        one
        for one in pool
        if one.source is best.source and one.length == GATE and one.policy == best.policy
    ]
    if not gated:  # by itself
        return best
    near = tuning.measured(gated[0].name) >= NEAR * tuning.measured(best.name)
    return gated[0] if near else best


def _by_speed(tuning: Tuning, pool: Sequence[Candidate]) -> Candidate:
    return max(pool, key=lambda one: tuning.measured(one.name))


def keeps_up(tuning: Tuning, one: Candidate) -> bool:
    """Return whether a candidate is not below plain decoding, as far as can be told.

    Its interval reaches 1, or it is within 3 %, which is what two runs of the same differ by.
    """
    gain = tuning.gain(one.name)
    return gain.value >= NEAR or (gain.high is not None and gain.high >= 1.0)


def _in_a_recipe(one: Candidate) -> bool:
    """Return whether a recipe can say it: trees have no length of their own, only the gate."""
    return one.source is None or one.source.tree is None or one.length == GATE


def sentence(tuning: Tuning) -> str:
    """Return what to use and why."""
    chosen = advised(tuning)
    if tuning.aim.weighs:
        return _weighed(tuning, chosen)
    if chosen.source is not None:
        return f"Use {chosen.name}: {_why(tuning, chosen)}."
    others = [one for one in tuning.candidates if one.source is not None]
    best = max(others, key=lambda one: tuning.measured(one.name))
    return f"Speculation does not pay here for sure: the best drafter is {best.name}, " + (
        f"{_why(tuning, best)}. Use plain decoding."
    )


def _weighed(tuning: Tuning, chosen: Candidate) -> str:
    own, plain = (size_text(tuning.nbytes[name]) for name in (chosen.name, PLAIN))
    why = "the yardstick" if chosen.name == PLAIN else _why(tuning, chosen)
    text = "exact" if chosen.exact else "approximate, since it forgets"
    beside = "" if chosen.name == PLAIN else f", plain decoding {plain}"
    return (
        f"Use {chosen.name}, goal {tuning.aim.goal}: {why}. It takes {own} (weights, and keys and "
        f"values at the end of the longest text){beside}; its text is {text}."
    )


def _why(tuning: Tuning, one: Candidate) -> str:
    gain = tuning.gain(one.name)
    samples = tuning.samples[one.name].values()
    rounds = sum(sample.forwards for sample in samples)
    tokens = sum(sample.emitted for sample in samples) / rounds
    interval = ""
    if gain.low is not None:
        interval = f" (95 % interval {gain.low:.2f} to {gain.high:.2f})"
    return (
        f"{gain.value:.2f} × plain decoding{interval}, since its rounds write {tokens:.2f} tokens "
        f"and take as long as {tokens / gain.value:.2f} plain ones"
    )


def miss(tuning: Tuning, one: Candidate) -> float:
    """Return by what share the predicted gain over plain decoding misses the measured one."""
    predicted = one.predicted / tuning.candidates[0].predicted
    return predicted / tuning.gain(one.name).value - 1.0


def warnings(tuning: Tuning) -> list[str]:
    """Return what limits the figures, and what is known to be slow."""
    here = tuning.target.device
    found = [
        f"{source.name} runs on {model.device}, the target on {here}: every draft crosses between "
        "them, put both on one"
        for source in tuning.sources
        for model in source.drafter.models
        if model.device != here and source.tree is None
    ]
    for name, seconds in tuning.drafting.items():
        share = seconds[1] / tuning.verifying[1]
        if share > SLOW:
            found.append(
                f"a forward of {name} takes {share:.2f} of one of the target: a drafter should be "
                "2 to 5 times as fast, so give a smaller one"
            )
    found += [f"{name} is left out: {why}" for name, why in tuning.excluded.items() if why != OVER]
    if not tuning.done:
        return found
    if tuning.aim.weighs and not keeps_up(tuning, advised(tuning)):
        found.append("all that is within the limit is slower than plain decoding")
    if tuning.done < FEW:
        found.append(
            f"{tuning.done} prompts are too few for intervals to be trusted: give {FEW} or more"
        )
    texts = [sample.tokens for sample in tuning.samples[PLAIN].values()]
    looping = sum(repeated_8gram_share(tokens) > LOOPING for tokens in texts)
    if looping:
        found.append(
            f"{looping} of {len(texts)} texts repeat themselves (more than {LOOPING:.0%} of their "
            "8-grams), which flatters every drafter"
        )
    # the gate learns within a text, which the prediction leaves out
    settled = [one for one in tuning.candidates if one.length != GATE and one.policy is None]
    off = [one.name for one in settled if abs(miss(tuning, one)) > OFF]
    if off:
        found.append(
            f"the prediction misses by more than {OFF:.0%}: {', '.join(off)}; more prompts and a "
            "quiet machine make both figures surer"
        )
    return found


def recipe_of(tuning: Tuning, base: Recipe) -> Recipe:
    """Return the recipe of what is advised.

    Args:
        tuning: a finished one.
        base: target, dtype, device and runtime.
    """
    chosen = advised(tuning)
    measured = measured_table(tuning)
    recipe = replace(
        base,
        threads=tuning.chosen_threads,
        measured=measured,
        cache_policy=None if chosen.policy is None else str(chosen.policy),
        drafter_cache_policy=None if chosen.drafter_policy is None else str(chosen.drafter_policy),
    )
    source = chosen.source
    if source is None:
        return replace(recipe, drafter="none")
    recipe = replace(recipe, drafter=source.name, costs=source.costs)
    if source.tree is not None:
        return replace(recipe, tree=source.tree)
    return replace(recipe, draft_length="fixed" if chosen.length is None else chosen.length)


def measured_table(tuning: Tuning) -> dict[str, Any]:
    """Return where the figures come from, and the figures: tokens a second of decoding."""
    where = environment()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": where["gpu"] or where["cpu"]["name"],
        "system": where["system"],
        "versions": where["versions"],
        "prompts": len(tuning.prompts),
        "prompts_sha256": prompts_hash(tuning.prompts),
        "new_tokens": tuning.writing.max_new_tokens,
        "temperature": tuning.writing.temperature,
        "acceptance": {
            source.label: [round(share, 4) for share in source.acceptance]
            for source in tuning.sources
            if source.acceptance
        },
        "predicted_tokens_per_second": {
            one.name: round(one.predicted, 2) for one in tuning.candidates
        },
        "measured_tokens_per_second": {
            one.name: round(tuning.measured(one.name), 2) for one in tuning.candidates
        },
        **_weights_table(tuning),
    }


def _weights_table(tuning: Tuning) -> dict[str, Any]:
    """Return what was aimed at, and bytes, where these have a part in it."""
    if not tuning.aim.weighs:
        return {}
    limit = tuning.aim.limit
    return {
        "goal": tuning.aim.goal,
        **({} if limit is None else {"memory_limit_bytes": limit}),
        "bytes": dict(tuning.nbytes),
        "approximate": [one.name for one in tuning.candidates if not one.exact],
    }
