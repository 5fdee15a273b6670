"""What the tree of a round looks like as text."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text
from rich.tree import Tree

from .screen import STYLES
from .text import visible

if TYPE_CHECKING:
    from ..types import Round

MARKS = {"accepted": "●", "rejected": "○", "extra": "→"}
PLAIN_MARKS = {"accepted": "*", "rejected": "-", "extra": ">"}
"""Where the terminal or file has no room for others."""


def drawn(
    turn: "Round",
    tokenizer: Any,
    *,
    unicode: bool = True,
    styles: Mapping[str, str] = STYLES,
    rejected: str = "dim",
) -> Tree:
    """Return a round's tree as a picture.

    Every line is a token: accepted, rejected, or the target's own that follows the accepted path.
    The figure after a draft token is how likely its drafter took the path to it to be.

    Args:
        turn: the round.
        tokenizer: of its tokens.
        unicode: any character may be drawn.
        styles: of each kind of token.
        rejected: style of the draft tokens that were not accepted.
    """
    tokens, parents = turn.tree.lists()
    marks = MARKS if unicode else PLAIN_MARKS
    accepted = {node for node, kind in zip(turn.verdict.path, turn.kinds, strict=False)}
    lines = {0: Tree(Text(_named(tokens[0], tokenizer), "dim"))}
    for node in range(1, len(tokens)):
        kind = "accepted" if node in accepted else "rejected"
        line = Text(f"{marks[kind]} ")
        line.append(_named(tokens[node], tokenizer), styles["accepted"] if node in accepted else "")
        if turn.tree.scores is not None:
            line.append(f"  {math.exp(turn.tree.scores[node]):.2f}", "dim")
        lines[node] = lines[parents[node]].add(line, style="" if node in accepted else rejected)
        lines[node].guide_style = "dim"
    if len(turn.tokens) > len(accepted):  # the text did not end inside the accepted path
        last = turn.verdict.path[-1] if accepted else 0
        line = Text(f"{marks['extra']} ")
        line.append(_named(turn.tokens[-1], tokenizer), styles[turn.kinds[-1]])
        line.append(f"  {turn.kinds[-1]}", "dim")
        lines[last].add(line)
    return lines[0]


def headline(turn: "Round") -> str:
    """Return one line about a round."""
    if not turn.drafted:
        return f"round {turn.index}: nothing drafted"
    return (
        f"round {turn.index}: {turn.drafted} drafted, {turn.tree.deepest()} deep, "
        f"{turn.kinds.count('accepted')} accepted"
    )


def _named(token: int, tokenizer: Any) -> str:
    """Return a token as text in quotes, spaces and line ends to be seen."""
    text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    return visible(repr(text)) if text else f"<{token}>"
