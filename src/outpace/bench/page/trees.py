"""Token trees: what was drafted, and the way the target took through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..document import Turn
from .tokens import spoken
from .words import HALF, clipped, escaped, many, whole, width

SHOWN = 6
"""Trees drawn of a generation."""

_LABEL = 14  # columns of a node's text at most
_COLUMN = 7.3  # of a character at 12 pixels in the widest of the usual fixed-width fonts
_BOX, _ROW, _GAP, _MARGIN = 22, 28, 26, 3


@dataclass(frozen=True, slots=True)
class _Node:
    text: str
    parent: int
    kind: str


@dataclass(frozen=True, slots=True)
class _Place:
    x: float
    y: float
    width: float


def trees(turns: Sequence[Turn], shown: int = SHOWN) -> str:
    """Return the first rounds whose tree branches, or the first chains where none does."""
    drafted = [(number, turn) for number, turn in enumerate(turns) if len(turn.nodes) > 1]
    branched = [(number, turn) for number, turn in drafted if branches(turn)]
    chosen = branched or drafted
    if not chosen:
        return ""
    noun = "tree" if branched else "drafted chain"
    told = many(len(chosen), noun)
    if len(chosen) > shown:
        told = f"the first {shown} of {told}"
    drawn = "\n".join(_figure(number, turn) for number, turn in chosen[:shown])
    return (
        f'<section class="trees">\n<h4>What was drafted, and what the target took</h4>\n'
        f'<p class="note">From left to right, {told}. What is filled was accepted and runs along '
        "the top; the broken frame at its end is the token that the target added by itself; the "
        f'rest was drafted in vain.</p>\n<div class="forest">\n{drawn}\n</div>\n</section>'
    )


def branches(turn: Turn) -> bool:
    """Return whether a node has more than one child."""
    return len(set(turn.parents)) < len(turn.parents)


def drawing(number: int, turn: Turn) -> str:
    """Return the tree of a round as an ``<svg>`` element."""
    nodes = _nodes(turn)
    places = _placed(nodes)
    broad = max(place.x + place.width for place in places) + _MARGIN
    high = max(place.y for place in places) + _BOX + _MARGIN
    # what was taken is drawn last, over the lines it shares with the rest
    edges = "".join(
        f'<path class="edge {escaped(node.kind)}" d="{_curve(places[node.parent], place)}"/>'
        for node, place in sorted(
            zip(nodes, places, strict=True), key=lambda one: one[0].kind != "drafted"
        )
        if node.parent >= 0
    )
    boxes = "".join(_box(node, place) for node, place in zip(nodes, places, strict=True))
    return (
        f'<svg class="tree" role="img" aria-label="{escaped(_said(number, turn))}" '
        f'width="{broad:.0f}" height="{high:.0f}" viewBox="0 0 {broad:.0f} {high:.0f}">\n'
        f"{edges}\n{boxes}\n</svg>"
    )


def _figure(number: int, turn: Turn) -> str:
    accepted = len(turn.path)
    return (
        '<figure class="tree">\n'
        f"<figcaption><b>Round {number}</b> {len(turn.nodes) - 1} drafted, {accepted} accepted"
        f'</figcaption>\n<div class="scroll" role="group" tabindex="0" '
        f'aria-label="tree of round {number}">{drawing(number, turn)}</div>\n</figure>'
    )


def _said(number: int, turn: Turn) -> str:
    accepted = spoken([turn.nodes[node] for node in turn.path])
    words = f"Round {number}: {many(len(turn.nodes) - 1, 'token')} drafted after "
    words += f"“{spoken(turn.nodes[:1])}”, "
    words += f"accepted “{accepted}”" if turn.path else "none accepted"
    own = _own(turn)
    return f"{words}, then {own.kind} “{spoken([own.text])}”" if own else words


def _own(turn: Turn) -> _Node | None:
    """Return the token that the target added, where the text did not end before it."""
    place = len(turn.path)
    if place >= len(turn.pieces):
        return None
    parent = turn.path[-1] if turn.path else 0
    return _Node(turn.pieces[place] or HALF, parent, turn.kinds[place])


def _nodes(turn: Turn) -> list[_Node]:
    accepted = set(turn.path)
    nodes = [
        _Node(text, parent, "root" if parent < 0 else "accepted" if node in accepted else "drafted")
        for node, (text, parent) in enumerate(zip(turn.nodes, turn.parents, strict=True))
    ]
    own = _own(turn)
    return [*nodes, own] if own else nodes


def _placed(nodes: Sequence[_Node]) -> list[_Place]:
    """Return where the boxes go: a level a column, a leaf a row, a parent beside its first child.

    What the target took comes first among siblings and so lies on one line.
    """
    children: list[list[int]] = [[] for _ in nodes]
    levels: list[int] = []
    for number, node in enumerate(nodes):
        levels.append(0 if node.parent < 0 else levels[node.parent] + 1)
        if node.parent >= 0:
            children[node.parent].append(number)
    broad = [0.0] * (max(levels) + 1)
    for node, level in zip(nodes, levels, strict=True):
        broad[level] = max(broad[level], width(_label(node.text)) * _COLUMN + 14)
    rows = [0] * len(nodes)
    row, waiting = -1, [(0, True)]
    while waiting:
        number, fresh = waiting.pop()
        row += fresh
        rows[number] = row
        order = sorted(children[number], key=lambda child: nodes[child].kind == "drafted")
        waiting += [(child, index > 0) for index, child in enumerate(order)][::-1]
    return [
        _Place(_MARGIN + sum(broad[:level]) + level * _GAP, _MARGIN + rows[number] * _ROW, size)
        for number, level in enumerate(levels)
        for size in [width(_label(nodes[number].text)) * _COLUMN + 14]
    ]


def _label(text: str) -> str:
    shown = whole(text).replace("\n", "↵").replace("\t", "⇥")
    return clipped(shown.replace(" ", "·"), _LABEL) or HALF


def _curve(parent: _Place, child: _Place) -> str:
    start, end = parent.x + parent.width, child.x
    top, bottom = parent.y + _BOX / 2, child.y + _BOX / 2
    middle = end - _GAP / 2
    if top == bottom:
        return f"M{start:.1f} {top:.1f}H{end:.1f}"
    return f"M{start:.1f} {top:.1f}H{middle - 6:.1f}q6 0 6 6V{bottom - 6:.1f}q0 6 6 6H{end:.1f}"


def _box(node: _Node, place: _Place) -> str:
    label = escaped(_label(node.text)).replace("·", '<tspan class="sign">·</tspan>')
    kind = escaped(node.kind)
    return (
        f'<g class="node {kind}"><title>{escaped(node.text)} ({kind})</title>'
        f'<rect x="{place.x:.1f}" y="{place.y:.1f}" width="{place.width:.1f}" height="{_BOX}" '
        f'rx="5"/><text x="{place.x + place.width / 2:.1f}" y="{place.y + 15.5:.1f}">{label}'
        "</text></g>"
    )
