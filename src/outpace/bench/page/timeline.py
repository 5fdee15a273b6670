"""The rounds of a generation to scale, in bands that wrap like the words of a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..document import Turn
from .stages import STAGES, Stage, stages, totals
from .words import escaped, many, milliseconds, share

WIDTH = 320
"""Units of a band: about its pixels, on a telephone one to a line and on a desk three."""
ROUNDS = 120
"""Rounds drawn at most."""
BANDS = 12
"""Bands drawn at most; full lines of one, two, three and four."""

_LANE, _AXIS, _COUNT = 18, 18, 13
_STACKS = 72  # of the highest stack of tokens
_TYPICAL = 24  # of a round in the middle, about


@dataclass(frozen=True, slots=True)
class Scale:
    """How time becomes length.

    Attributes:
        origin: where the first band begins, in seconds; after 0 where the prefill is cut.
        step: between two marks of the axis, in seconds.
        steps: of a band.
        unit: height of a token.
    """

    origin: float
    step: float
    steps: int
    unit: float

    @property
    def band(self) -> float:
        """Seconds of a band."""
        return self.step * self.steps

    def place(self, seconds: float) -> float:
        """Return the distance from the first band's left end."""
        return (seconds - self.origin) / self.band * WIDTH


def timeline(turns: Sequence[Turn]) -> str:
    """Return the figure: its legend with what each stage took, and the bands."""
    if not turns:
        return ""
    found = stages(turns)
    scale = scaled(turns)
    count = bands_needed(turns, scale)
    drawn = "\n".join(_band(number, scale, turns, found) for number in range(count))
    return (
        '<figure class="timeline">\n<figcaption><h4>Where the time went</h4>\n'
        f'{_legend(found)}<p class="note">{_told(turns, scale, count)}</p></figcaption>\n'
        f'<div class="bands">\n{drawn}\n</div>\n</figure>'
    )


def scaled(turns: Sequence[Turn]) -> Scale:
    """Return a scale by which a round is neither a hair nor a line, with round numbers."""
    rounds = [turn.times[3] - turn.times[0] for turn in turns[1:]] or [turns[0].times[3] / 4]
    wanted = max(median(rounds), 1e-6) * WIDTH / _TYPICAL
    digits = math.floor(math.log10(wanted))
    choices = [
        (step * 10.0**power, steps)
        for power in (digits - 1, digits)
        for step in (1, 2, 5)
        for steps in (3, 4, 5)
    ]
    step, steps = min(choices, key=lambda one: abs(math.log(one[0] * one[1] / wanted)))
    prefill, origin = turns[0].times[2], 0.0
    if prefill > step * steps:
        origin = (prefill // step - 1) * step
    most = max((len(turn.pieces) for turn in turns), default=1)
    return Scale(origin, step, steps, min(8.0, _STACKS / max(1, most)))


def bands_needed(turns: Sequence[Turn], scale: Scale) -> int:
    """Return how many bands show the first rounds."""
    end = turns[min(len(turns) - 1, ROUNDS)].times[3]
    return max(1, min(BANDS, math.ceil((end - scale.origin) / scale.band - 1e-9)))


def _legend(found: Sequence[Stage]) -> str:
    sums = totals(found)
    whole = sum(sums.values())
    items = "".join(
        f'<li><i class="swatch {name}"></i><span>{name}</span> <b>{milliseconds(seconds)}</b> '
        f"({share(seconds / whole)}) <small>{STAGES[name]}</small></li>\n"
        for name, seconds in sums.items()
    )
    return f'<ul class="legend">\n{items}</ul>\n'


def _told(turns: Sequence[Turn], scale: Scale, count: int) -> str:
    end = scale.origin + count * scale.band
    shown = sum(turn.times[3] <= end for turn in turns[1:])
    rounds, emitted = len(turns) - 1, sum(len(turn.pieces) for turn in turns)
    told = f"{many(emitted, 'token')} in {milliseconds(turns[-1].times[3])}, "
    told += f"the prefill and {many(rounds, 'round')}"
    if shown < rounds:
        told += f"; the first {shown} are shown"
    told += ". Time runs from left to right and on in the next line; a box above is a token, "
    told += "stacked where the round ends that gave it."
    if scale.origin:
        told += f" The first {milliseconds(scale.origin)} of the prefill are cut off."
    return told


def _band(number: int, scale: Scale, turns: Sequence[Turn], found: Sequence[Stage]) -> str:
    start = scale.origin + number * scale.band
    end = start + scale.band
    here = [stage for stage in found if stage.start < end and stage.end > start]
    ended = [place for place, turn in enumerate(turns) if start < turn.times[2] <= end]
    top = _COUNT + math.ceil(scale.unit * max(len(turn.pieces) for turn in turns)) + 4
    high = top + _LANE + _AXIS
    emitted = sum(len(turns[place].pieces) for place in ended)
    said = f"{milliseconds(start)} to {milliseconds(end)}: {many(len(ended), 'forward')} of the "
    said += f"target done, {many(emitted, 'token')}"
    thin = _thin(turns, scale)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {high}" role="img" aria-label="{said}">',
        *_axis(start, scale, top),
        *(_rectangle(stage, turns, start, end, scale, top) for stage in here),
        *(_stack(turns[place], start, scale, top, thin) for place in ended),
        *_cut(scale, number, top),
        "</svg>",
    ]
    return "\n".join(parts)


def _thin(turns: Sequence[Turn], scale: Scale) -> float:
    """Return the width of a stack of tokens: one that leaves a gap to its neighbours."""
    rounds = [turn.times[3] - turn.times[0] for turn in turns[1:]] or [scale.band / 8]
    return min(12.0, max(2.5, 0.6 * median(rounds) / scale.band * WIDTH))


def _axis(start: float, scale: Scale, top: int) -> list[str]:
    below = top + _LANE
    digits = max(0, -math.floor(math.log10(1000 * scale.step) + 1e-9))
    marks = []
    for step in range(scale.steps):
        x = step * WIDTH / scale.steps
        value = f"{1000 * (start + step * scale.step):,.{digits}f}"
        unit = " ms" if step == 0 else ""
        marks.append(
            f'<path class="grid" d="M{x:.1f} {_COUNT}V{below + 5}"/>'
            f'<text class="axis" x="{x + 3:.1f}" y="{below + 14}">{value}{unit}</text>'
        )
    return marks


def _rectangle(
    stage: Stage, turns: Sequence[Turn], start: float, end: float, scale: Scale, top: int
) -> str:
    left, right = max(stage.start, start), min(stage.end, end)
    x, length = (left - start) / scale.band * WIDTH, (right - left) / scale.band * WIDTH
    what = "prefill" if stage.turn == 0 else f"round {stage.turn}"
    title = f"{what}, {stage.name}: {milliseconds(stage.seconds)}"
    if stage.turn:
        emitted, drafted = len(turns[stage.turn].pieces), len(turns[stage.turn].nodes) - 1
        title += f"; {drafted} drafted, {many(emitted, 'token')} gained"
    return (
        f'<rect class="{stage.name}" x="{x:.2f}" y="{top}" width="{length:.2f}" '
        f'height="{_LANE}"><title>{title}</title></rect>'
    )


def _stack(turn: Turn, start: float, scale: Scale, top: int, thin: float) -> str:
    """Return the tokens of a round, the first at the bottom, and their number above."""
    thin = min(thin, 0.8 * (turn.times[3] - turn.times[0]) / scale.band * WIDTH)
    right = max(thin, (turn.times[2] - start) / scale.band * WIDTH - 0.5)
    gap = 1 if scale.unit >= 4 else 0.3
    boxes = []
    for place, kind in enumerate(turn.kinds):
        y = top - 3 - (place + 1) * scale.unit
        inset = 0.75 if kind in {"recovered", "plain"} else 0.0  # these have a frame
        boxes.append(
            f'<rect class="box {escaped(kind)}" x="{right - thin + inset:.2f}" '
            f'y="{y + inset:.2f}" width="{max(0.5, thin - 2 * inset):.2f}" '
            f'height="{max(0.5, scale.unit - gap - 2 * inset):.2f}"/>'
        )
    if thin >= 6 and len(turn.kinds) > 1:
        y = top - 6 - len(turn.kinds) * scale.unit
        boxes.append(
            f'<text class="count" x="{right - thin / 2:.2f}" y="{y:.2f}">{len(turn.kinds)}</text>'
        )
    return "".join(boxes)


def _cut(scale: Scale, number: int, top: int) -> list[str]:
    """Return the sign that the prefill began before the first band."""
    if number or not scale.origin:
        return []
    return [f'<path class="cut" d="M4 {top - 3}l4 8l-4 8l4 8"/>']
