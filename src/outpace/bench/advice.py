"""What a tuning says: what to use and why, what to beware of, and the recipe of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ..recipe import GATE, Recipe
from .candidates import Candidate
from .environment import environment
from .measured import PLAIN
from .metrics import LOOPING, repeated_8gram_share
from .record import FEW
from .tuning import Tuning
from .workloads import prompts_hash

NEAR = 0.97
"""The gate is advised where it reaches this share of the fastest: it copes with other texts too."""
SLOW = 0.5
"""A drafter whose forward takes more than this share of the target's rarely pays."""
OFF = 0.1
"""A prediction that misses the measured gain by more is worth a warning."""


def advised(tuning: Tuning) -> Candidate:
    """Return the candidate to use: plain decoding unless another one is faster for sure."""
    by_name = {one.name: one for one in tuning.candidates}
    best = max(filter(_in_a_recipe, tuning.candidates), key=lambda one: tuning.measured(one.name))
    gain = tuning.gain(best.name)
    if best.source is None or (gain.value if gain.low is None else gain.low) <= 1.0:
        return by_name[PLAIN]
    gated = by_name.get(f"{best.source.label} {GATE}")
    if gated is None:  # by itself
        return best
    near = tuning.measured(gated.name) >= NEAR * tuning.measured(best.name)
    return gated if near else best


def _in_a_recipe(one: Candidate) -> bool:
    """Return whether a recipe can say it: trees have no length of their own, only the gate."""
    return one.source is None or one.source.tree is None or one.length == GATE


def sentence(tuning: Tuning) -> str:
    """Return what to use and why."""
    chosen = advised(tuning)
    if chosen.source is not None:
        return f"Use {chosen.name}: {_why(tuning, chosen)}."
    others = [one for one in tuning.candidates if one.source is not None]
    best = max(others, key=lambda one: tuning.measured(one.name))
    return f"Speculation does not pay here for sure: the best drafter is {best.name}, " + (
        f"{_why(tuning, best)}. Use plain decoding."
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
    if not tuning.done:
        return found
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
    settled = [one for one in tuning.candidates if one.length != GATE]
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
    recipe = replace(base, threads=tuning.chosen_threads, measured=measured)
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
    }
