"""The text of a generation, each token marked with where it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ..document import Generation, Turn
from .words import HALF, escaped, many, share, whole

KINDS: Mapping[str, str] = {
    "accepted": "drafted, and the target agreed",
    "recovered": "the target's own, where it rejected the draft",
    "bonus": "the target's own, after a draft it accepted whole",
    "plain": "the target's own, without a draft",
}
"""What an emitted token can be, in the order of the legend."""


def tokens(generation: Generation) -> str:
    """Return the legend with its counts, and the text."""
    counts = Counter(kind for turn in generation.turns for kind in turn.kinds)
    rounds = "".join(_round(number, turn) for number, turn in enumerate(generation.turns))
    before = f'<span class="before">{_marked(generation.before)}</span>'
    return (
        '<figure class="tokens">\n<figcaption><h4>Where each token came from</h4>\n'
        f"{legend(counts)}</figcaption>\n"
        f'<div class="text" dir="auto" translate="no">{before}{rounds}</div>\n</figure>'
    )


def legend(counts: Mapping[str, int]) -> str:
    """Return a list of the kinds there are, with how many tokens are of each."""
    total = sum(counts.values())
    items = "".join(
        f'<li><span class="token {kind}">{kind}</span> '
        f"<b>{counts[kind]:,}</b> ({share(counts[kind] / total)}) "
        f"<small>{meaning}</small></li>\n"
        for kind, meaning in KINDS.items()
        if counts.get(kind)
    )
    return f'<ul class="legend">\n{items}</ul>\n'


def _round(number: int, turn: Turn) -> str:
    pieces = zip(turn.pieces, turn.kinds, strict=True)
    inside = "".join(
        f'<span class="token {escaped(kind)}">{_marked(piece) or _half()}</span>'
        for piece, kind in pieces
    )
    return f'<span title="{_told(number, turn)}">{inside}</span>'


def _told(number: int, turn: Turn) -> str:
    """Return what a pointer that rests on a round is told: nobody needs the colours."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(turn.kinds).items())
    drafted = len(turn.nodes) - 1
    what = "prefill" if number == 0 else f"round {number}"
    return escaped(f"{what}: {kinds}" + (f"; {many(drafted, 'token')} drafted" if drafted else ""))


def _half() -> str:
    return f'<span class="sign" title="completes no character">{HALF}</span>'


def _marked(text: str) -> str:
    """Return the text with ends of lines and tabs both done and shown; the signs are not copied."""
    shown = escaped(text)
    shown = shown.replace("\n", '<span class="sign">↵</span>\n')
    return shown.replace("\t", '<span class="sign">⇥</span>\t')


def spoken(pieces: Sequence[str]) -> str:
    """Return pieces as one text on a line, for a description."""
    return whole("".join(pieces)).replace("\n", "↵").replace("\t", "⇥")
