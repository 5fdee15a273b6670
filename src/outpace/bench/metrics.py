"""Figures of runs, one definition each."""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
Pace = tuple[float, int]
"""Seconds of a text and its tokens."""
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


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest of these values, which are sorted, that ``share`` of them do not pass."""
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


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
    return bootstrap(_paired(baseline, seconds), _ratio)


def pace_ratio(baseline: Sequence[Sequence[Pace]], method: Sequence[Sequence[Pace]]) -> Interval:
    """Return the time a token takes the baseline over the time it takes a method.

    The same as :func:`speedup` where all texts are equally long. Where they end by themselves it is
    the figure that a shorter text does not flatter.

    Args:
        baseline: for each prompt (seconds, tokens) of its texts.
        method: the same prompts and repeats.
    """
    return bootstrap(_paired(baseline, method), _pace_ratio)


def bootstrap(units: Sequence[Sequence[T]], figure: Callable[[Sequence[T]], float]) -> Interval:
    """Return a figure of all values and its interval, found by drawing units with replacement.

    Args:
        units: values that are drawn together; of a single unit its values are drawn.
        figure: of a list of values.
    """
    drawn = list(units) if len(units) > 1 else [[one] for one in units[0]]
    everything = [value for unit in drawn for value in unit]
    if len(drawn) == 1:
        return Interval(figure(everything), None, None)
    draw = random.Random(0)
    found = sorted(
        figure([value for unit in draw.choices(drawn, k=len(drawn)) for value in unit])
        for _ in range(RESAMPLES)
    )
    low, high = found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES) - 1]
    return Interval(figure(everything), low, high)


def _paired(one: Sequence[Sequence[T]], other: Sequence[Sequence[T]]) -> list[list[tuple[T, T]]]:
    return [list(zip(a, b, strict=True)) for a, b in zip(one, other, strict=True)]


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(b for b, _ in pairs) / sum(s for _, s in pairs)


def _pace_ratio(pairs: Sequence[tuple[Pace, Pace]]) -> float:
    paces = [
        sum(pair[side][0] for pair in pairs) / sum(pair[side][1] for pair in pairs)
        for side in (0, 1)
    ]
    return paces[0] / paces[1]
