"""What kind of head it is, how much it needs the far past, and what to keep for it.

The rules, in order; the first that holds decides. *Anchored* is what lies on the sinks or on no
token (:attr:`Head.aside`), *near* what lies on the last :data:`NEAR` tokens.

- ``dead``: first token and aside hold :data:`DEAD`, so that nothing is read;
- ``positional sink``: anchored and near hold :data:`HELD`, anchored alone :data:`ANCHORED`;
- ``positional``: anchored and near hold :data:`HELD`;
- ``mixed sink``: anchored holds :data:`ANCHORED`, the rest is content;
- ``gathering``: far holds :data:`FAR`, on few tokens (:data:`SHARP`);
- ``mixed``: anything else.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...cache.budgets import FULL, SINK_WINDOW, WINDOW, HeadBudget
from .head import WINDOWS, Head

CLASSES = ("positional sink", "positional", "mixed sink", "gathering", "dead", "mixed")

DEAD = 0.95
"""Share of the first token and aside from which a head is dead."""
HELD = 0.9
"""Share of sinks, aside and :data:`NEAR` from which place alone says what a head reads."""
NEAR = 64
"""Tokens of the window that is near; of :data:`WINDOWS`."""
ANCHORED = 0.25
"""Share of sinks and aside from which a head leans on them."""
FAR = 0.25
"""Share beyond sinks and the widest window from which a head reaches far."""
SHARP = 0.5
"""Relative entropy up to which a head picks few tokens."""
KEPT = 0.95
"""Share of its attention that a window must hold, with the sinks or without, to be suggested."""


def classify(head: Head) -> str:
    """Return the class of a head, one of :data:`CLASSES`."""
    near = head.windows[WINDOWS.index(NEAR)]
    anchored = head.sinks + head.aside
    if head.first + head.aside >= DEAD:
        return "dead"
    if anchored + near >= HELD:
        return "positional sink" if anchored >= ANCHORED else "positional"
    if anchored >= ANCHORED:
        return "mixed sink"
    if head.far >= FAR and head.relative_entropy <= SHARP:
        return "gathering"
    return "mixed"


def importance(head: Head) -> float:
    """Return how much a head needs more than sinks and the widest window, from 0 to 1.

    It is the share ε of its attention beyond them. Without it a head's output is another by no
    more than 2·ε times its longest value vector, since what is left is weighed anew. A mean over
    rows: a head that looks far back rarely, but then at nothing else, has a low one.
    """
    return min(1.0, max(0.0, head.far))


def budget(heads: Sequence[Head]) -> HeadBudget:
    """Return what to keep of a key-value head for all query heads that share it.

    The share is 0.5 + 0.5 · importance of the one that needs most. The kind is that of the
    narrowest window that holds :data:`KEPT` of each one's attention, with the sinks only where
    they are needed; ``full`` where none does.
    """
    share = 0.5 + 0.5 * max(map(importance, heads))
    for place, width in enumerate(WINDOWS):
        alone = min(head.windows[place] + head.aside for head in heads)
        if alone >= KEPT:
            return HeadBudget(share, WINDOW, width)
        if min(head.windows[place] + head.aside + head.sinks for head in heads) >= KEPT:
            return HeadBudget(share, SINK_WINDOW, width)
    return HeadBudget(share, FULL, None)
