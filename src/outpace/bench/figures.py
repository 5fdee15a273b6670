"""The figures of a method over some of its texts, one definition each."""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any

from .diversity import distinct, self_bleu
from .measured import BASELINE, PLAIN, Key, Measured, text_hash
from .metrics import mean_and_deviation, pace_ratio, repeated_8gram_share, speedup
from .sample import Sample

_Units = list[list[Sample]]
SELF_BLEU_TEXTS = 40
"""Texts self-BLEU looks at, at most: it compares each with all others."""


def figures(done: Measured, name: str, keys: Sequence[Key]) -> dict[str, Any]:
    """Return the figures of a method.

    Args:
        done: what was measured.
        name: of the method.
        keys: the texts to look at; there is one at least.
    """
    samples = [done.samples[name][key] for key in keys]
    speeds = [sample.tokens_per_second for sample in samples]
    mean, deviation = mean_and_deviation(speeds)
    drafted = sum(sample.drafted for sample in samples)
    forwards = sum(sample.forwards for sample in samples)
    later = [sample.tpot for sample in samples if sample.tpot is not None]
    own, base = _by_text(done, name, keys, BASELINE)
    plain = _by_text(done, name, keys, PLAIN)[1] if PLAIN in done.usable else None
    return {
        "tokens_per_second": {"mean": mean, "std": deviation, "samples": speeds},
        "speedup_vs_hf": _pace_ratio(base, own),
        "speedup_vs_plain": None if plain is None else _pace_ratio(plain, own),
        "time_vs_hf": dataclasses.asdict(
            speedup(
                [[s.seconds for s in unit] for unit in base], [[s.seconds for s in u] for u in own]
            )
        ),
        "ttft_ms": 1000 * statistics.fmean(sample.ttft for sample in samples),
        "tpot_ms": 1000 * statistics.fmean(later) if later else None,
        "itl_ms": _gaps(samples),
        "acceptance_rate": sum(s.accepted for s in samples) / drafted if drafted else None,
        "mean_acceptance_length": (
            sum(sample.emitted for sample in samples) / forwards if forwards else None
        ),
        "per_depth_acceptance": _per_depth(samples),
        "per_depth_tried": _over_depths([s.offered for s in samples]) or None,
        "drafted_per_forward": drafted / forwards if forwards else None,
        "draft_share": _draft_share(samples),
        "new_tokens": statistics.fmean(len(sample.tokens) for sample in samples),
        "forwards": statistics.fmean(sample.forwards for sample in samples),
        "ppl": _perplexity(done, name, keys),
        "joules_per_token": _joules(samples),
        "repeated_8gram_share": statistics.fmean(
            repeated_8gram_share(sample.tokens) for sample in samples
        ),
    }


def _joules(samples: Sequence[Sample]) -> float | None:
    """Return the energy a token took; None where the machine has no counter."""
    found = [sample.joules for sample in samples if sample.joules is not None]
    if len(found) < len(samples):
        return None
    return sum(found) / sum(len(sample.tokens) for sample in samples)


def diversity(done: Measured, name: str, keys: Sequence[Key]) -> dict[str, float | None]:
    """Return how much the texts of a method differ, each prompt's once."""
    texts = [done.samples[name][key].tokens for key in keys if key[1] == 0]
    return {
        "distinct_1": distinct(texts, 1),
        "distinct_2": distinct(texts, 2),
        "distinct_3": distinct(texts, 3),
        "self_bleu": self_bleu(texts[:SELF_BLEU_TEXTS]),
    }


def _pace_ratio(base: _Units, own: _Units) -> dict[str, Any]:
    each = [
        [[(sample.seconds, len(sample.tokens)) for sample in unit] for unit in units]
        for units in (base, own)
    ]
    return dataclasses.asdict(pace_ratio(*each))


def _by_text(done: Measured, name: str, keys: Sequence[Key], other: str) -> tuple[_Units, _Units]:
    """Return the texts of a method and those of another next to each.

    What continues one and the same text, repeated or with other seeds, stands together: it is not
    independent.
    """
    own: dict[tuple[str, str], list[Sample]] = {}
    base: dict[tuple[str, str], list[Sample]] = {}
    for key in keys:
        text = done.asked.texts[key[0]]
        own.setdefault(text, []).append(done.samples[name][key])
        base.setdefault(text, []).append(done.beside(name, key, other))
    return list(own.values()), list(base.values())


def _gaps(samples: Sequence[Sample]) -> dict[str, float] | None:
    """Return the means over texts of each text's quantiles, in milliseconds."""
    known = [sample.gaps for sample in samples if sample.gaps is not None]
    if not known:
        return None
    return {
        name: 1000 * statistics.fmean(getattr(gaps, name) for gaps in known)
        for name in ("p50", "p90", "p99")
    }


def _per_depth(samples: Sequence[Sample]) -> list[float] | None:
    offered = _over_depths([sample.offered for sample in samples])
    kept = _over_depths([sample.kept for sample in samples])
    return [k / n for k, n in zip(kept, offered, strict=True)] or None


def _over_depths(counts: Sequence[Sequence[int]]) -> list[int]:
    """Return what the counts of all texts come to at each depth."""
    return [sum(depth) for depth in itertools.zip_longest(*counts, fillvalue=0)]


def _draft_share(samples: Sequence[Sample]) -> float | None:
    """Return the share of the rounds' time that went into drafting; None where nothing was."""
    drafting = sum(sample.drafting or 0.0 for sample in samples)
    verifying = sum(sample.verifying or 0.0 for sample in samples)
    drafted = any(sample.drafted for sample in samples)
    return drafting / (drafting + verifying) if drafted and drafting else None


def _perplexity(done: Measured, name: str, keys: Sequence[Key]) -> float | None:
    """Return the perplexity of these texts under the target, every new token counting once."""
    nats, count = 0.0, 0
    for key in keys:
        tokens = done.samples[name][key].tokens
        found = done.surprise.get((key[0], text_hash(tokens)))
        if found is None:
            return None
        nats, count = nats + found, count + len(tokens)
    return math.exp(nats / count) if count else None
