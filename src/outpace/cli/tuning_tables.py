"""The tables of ``outpace tune``."""

from typing import TYPE_CHECKING

from .tables import grid

if TYPE_CHECKING:
    from ..bench.tuning import Tuning
    from .screen import Screen


def show_costs(tuning: "Tuning", screen: "Screen") -> None:
    """Show what forwards take, by threads and by width."""
    if tuning.threads:
        head = ["threads", *map(str, tuning.threads)]
        row = ["ms a forward", *(f"{1000 * one:.2f}" for one in tuning.threads.values())]
        screen.console.print(grid(head, [row], screen))
        screen.console.print(f"{tuning.chosen_threads} threads are used from here on.")
    head = ["method", *map(str, tuning.verifying)]
    rows = [
        [f"ms, {name}", *(f"{1000 * one:.2f}" for one in seconds.values())]
        for name, seconds in (("target", tuning.verifying), *tuning.drafting.items())
    ]
    first = tuning.verifying[1]
    rows.append(["target, × width 1", *(f"{s / first:.2f}" for s in tuning.verifying.values())])
    screen.console.print("A forward over so many tokens:")
    screen.console.print(grid(["", *head[1:]], rows, screen))


def show_acceptance(tuning: "Tuning", screen: "Screen") -> None:
    """Show what was accepted at each depth, of drafters of chains."""
    chains = [source for source in tuning.sources if source.acceptance]
    if not chains:
        return
    deepest = min(8, max(len(source.acceptance) for source in chains))
    rows = [
        [source.label, *(f"{share:.0%}" for share in source.acceptance[:deepest])]
        for source in chains
    ]
    rows = [[*row, *[""] * (deepest + 1 - len(row))] for row in rows]
    screen.console.print("Accepted at each depth, of the draft tokens that were tried there:")
    screen.console.print(grid(["method", *map(str, range(1, deepest + 1))], rows, screen))


CANDIDATES = (
    "method",
    "predicted tokens/s",
    "measured tokens/s",
    "predicted × plain",
    "measured × plain (95 % interval)",
    "prediction off by",
    "tokens a forward",
    "TTFT ms",
)


def show_candidates(tuning: "Tuning", screen: "Screen") -> None:
    """Show what was predicted, and what was measured as far as it goes."""
    from ..bench.advice import miss
    from ..bench.weighing import OVER
    from ..memory import size_text

    plain = tuning.candidates[0].predicted
    weighs = bool(tuning.nbytes)
    rows = []
    for one in tuning.candidates:
        predicted = (f"{one.predicted:.1f}", f"{one.predicted / plain:.2f}")
        if not tuning.done:
            bare = [one.name, predicted[0], "", predicted[1], "", "", "", ""]
            rows.append([*bare, *_weight(tuning, one.name, one.exact)] if weighs else bare)
            continue
        samples = list(tuning.samples[one.name].values())
        gain = tuning.gain(one.name)
        interval = "" if gain.low is None else f" ({gain.low:.2f}–{gain.high:.2f})"
        forwards = sum(sample.forwards for sample in samples)
        rows.append(
            [
                one.name,
                predicted[0],
                f"{tuning.measured(one.name):.1f}",
                predicted[1],
                f"{gain.value:.2f}{interval}",
                f"{miss(tuning, one):+.0%}",
                f"{sum(sample.emitted for sample in samples) / forwards:.2f}",
                f"{1000 * sum(sample.ttft for sample in samples) / len(samples):.1f}",
                *(_weight(tuning, one.name, one.exact) if weighs else ()),
            ]
        )
    screen.console.print("Tokens a second of decoding, the time to the first token apart:")
    screen.console.print(grid((*CANDIDATES, *WEIGHED) if weighs else CANDIDATES, rows, screen))
    if over := [name for name, why in tuning.excluded.items() if why == OVER]:
        sizes = ", ".join(f"{name} ({size_text(tuning.nbytes[name])})" for name in over)
        screen.console.print(f"Over the limit, not measured: {sizes}", markup=False)


WEIGHED = ("bytes", "text is")


def _weight(tuning: "Tuning", name: str, exact: bool) -> tuple[str, str]:
    """Return what a candidate takes and whether its text is the target's own."""
    from ..memory import size_text

    nbytes = tuning.nbytes[name]
    beyond = "" if tuning.aim.allows(nbytes) else " (over the limit)"
    return f"{size_text(nbytes)}{beyond}", "exact" if exact else "approximate"
