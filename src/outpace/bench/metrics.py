"""Figures of runs, one definition each."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 2000
LOOPING = 0.2
"""A text with a larger share of repeated 8-grams flatters every drafter."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its bootstrap 95 % interval, None where there is nothing to resample."""

    value: float
    low: float | None
    high: float | None

    @property
    def is_unsure(self) -> bool:
        """Whether the interval is wider than the gain (or loss) it is to show, or missing."""
        if self.low is None or self.high is None:
            return True
        return self.high - self.low > abs(self.value - 1.0)


def repeated_8gram_share(tokens: Sequence[int]) -> float:
    """Return the share of 8-grams that stood earlier in the same text; 0 where there is none."""
    grams = [tuple(tokens[i : i + 8]) for i in range(len(tokens) - 7)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def mean_and_deviation(samples: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation (0 for a single sample)."""
    if not samples:
        return 0.0, 0.0
    return statistics.fmean(samples), statistics.stdev(samples) if len(samples) > 1 else 0.0


def speedup(baseline: Sequence[Sequence[float]], seconds: Sequence[Sequence[float]]) -> Interval:
    """Return the total time of the baseline over the total time of a method.

    Args:
        baseline: for each prompt, its times; every text has as many tokens as its counterpart.
        seconds: of the method, the same prompts and repeats.

    The interval resamples whole prompts, since the repeats of one prompt are not independent; a
    single prompt is resampled by repeat, and a single time not at all.
    """
    pairs = [list(zip(b, s, strict=True)) for b, s in zip(baseline, seconds, strict=True)]
    units = pairs if len(pairs) > 1 else [[pair] for pair in pairs[0]]
    totals = [(sum(b for b, _ in unit), sum(s for _, s in unit)) for unit in units]
    if len(totals) == 1:
        return Interval(_ratio(totals), None, None)
    draw = random.Random(0)
    ratios = sorted(_ratio(draw.choices(totals, k=len(totals))) for _ in range(RESAMPLES))
    low, high = ratios[int(0.025 * RESAMPLES)], ratios[int(0.975 * RESAMPLES) - 1]
    return Interval(_ratio(totals), low, high)


def _ratio(totals: Sequence[tuple[float, float]]) -> float:
    return sum(b for b, _ in totals) / sum(s for _, s in totals)
