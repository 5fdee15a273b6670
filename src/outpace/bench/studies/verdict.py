"""What a study says, in a sentence or two, and what has to be known before."""

from __future__ import annotations

from collections.abc import Sequence

from ..record import Record
from ..verdict import fastest
from .eviction_figures import nearest
from .eviction_figures import told as told_of_policies
from .models import drafter_of
from .outcome import Outcome
from .study import Study

EMBEDDED = "zoo:"


def lead(study: Study, found: Sequence[Outcome]) -> list[str]:
    """Return what has to be known before a figure is read, the most important first."""
    told = []
    settings = study.settings()
    small = any(str(one.config["target"]).startswith(EMBEDDED) for one in settings)
    gpu = bool(found) and all(one.record["environment"].get("gpu") for one in found)
    if small or not gpu:
        told.append(_theirs(small, gpu))
    told += [text for text in (study.question, study.reference) if text]
    told.append(_how(study))
    return told + list(dict.fromkeys(text for one in found for text in _read(one)))


def _read(outcome: Outcome) -> list[str]:
    """Say what precisions or policies were compared on, and how perplexity is counted there."""
    if outcome.setting.evictions is not None:
        title = outcome.setting.part
        return [f"{title}: {told_of_policies(outcome.setting, outcome.record)}"]
    lines = [line for line in outcome.quality.values() if line.get("quality")]
    if not lines:
        return []
    first = lines[0]
    tokens = first["quality"]["tokens"]
    bos = "after the tokenizer's BOS" if first["bos"] else "without a BOS"
    return [
        f"Precisions were compared on {len(tokens)} passages of {', '.join(first['names'])}, "
        f"{sum(tokens):,} tokens, {bos}: each passage is one window of up to "
        f"{max(tokens) + 1} tokens, every token after its first is scored once, PPL is weighted by "
        f"token, KL divergence and best tokens are against {first['reference']}; brackets are "
        "over passages. Each was read, and memory measured, in a process of its own."
    ]


def _theirs(small: bool, gpu: bool) -> str:
    model = "a small model runs" if small else "the model runs"
    where = "a GPU" if gpu else "a processor"
    return (
        "The systems this study is held against ran models of 2.8 to 8 billion parameters on GPUs. "
        f"Here {model} on {where}: shapes of curves, orders of methods and acceptance on one's own "
        "texts can be compared; tokens a second, memory in gigabytes and the height of a speed-up "
        "cannot, since what a forward costs against everything around it is another matter."
    )


def _how(study: Study) -> str:
    configs = [one.config for one in study.settings()]
    trios = [
        f"target {one['target']}, drafter {drafter_of(one) or 'none'}, {one['dtype']}"
        for one in configs
    ]
    models = "; ".join(dict.fromkeys(trios))
    writing = any(one.evictions is None for one in study.settings())
    form = " Quick form: few and short texts, to see that it runs; its figures mean little." * (
        study.quick
    )
    if not writing:
        return f"{models[0].upper()}{models[1:]}.{form}"
    return (
        f"{models[0].upper()}{models[1:]}. All methods of a setting wrote every prompt in turn, in "
        "one process, in an order shuffled by the seed. × hf is against transformers' own generate "
        "in the same run; brackets are 95 % bootstrap intervals over prompts, with a question mark "
        f"where they are too wide for the claim.{form}"
    )


def verdict(study: Study, found: Sequence[Outcome]) -> list[str]:
    """Return what to use: the fastest method, by how much, and whether the text is the same.

    Of a study in several parts, each of these has a sentence.
    """
    if not found:
        return ["Nothing is measured yet."]
    parts: dict[str, list[Record]] = {}
    reading: set[str] = set()
    for one in found:
        title = study.part(one.setting.part).title
        parts.setdefault(title, []).append(one.record)
        reading |= {title} if one.setting.evictions is not None else set()
    told = {
        title: nearest(records) if title in reading else fastest(records)
        for title, records in parts.items()
    }
    if len(told) == 1:
        return list(told.values())
    return [f"{title}: {sentence}" for title, sentence in told.items()]
