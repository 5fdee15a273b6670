"""A beam search drawn as a tree of text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text
from rich.tree import Tree

from .text import visible

if TYPE_CHECKING:
    from ..beam import BeamOutput, BeamTree

TEXTS, DROPPED = 8, 8
"""How many texts and how many dropped branches are drawn, the latter those that lived longest."""
PROMPT_END = 40
"""How many characters of the prompt are shown."""


def draw(output: "BeamOutput", tokenizer: Any, prompt: str) -> Tree:
    """Return the tree: texts with their scores, the best one marked, some of what was dropped."""
    drawing = _Drawing(output, tokenizer)
    cut = "…" if len(prompt) > PROMPT_END else ""
    root = Tree(Text(cut + _line(prompt[-PROMPT_END:]), "bold"), guide_style="dim", highlight=False)
    drawing.hang(root, 0)
    return root


class _Drawing:
    """Which nodes are drawn, and how.

    Args:
        output: of the search.
        tokenizer: of its model.
    """

    def __init__(self, output: "BeamOutput", tokenizer: Any) -> None:
        self._tree, self._tokenizer = output.tree, tokenizer
        self._texts = {one.node: one for one in output.hypotheses[:TEXTS]}
        self._best = next(iter(self._texts), 0)
        self._winners = self._tree.above([self._best])
        hidden_texts = output.hypotheses[TEXTS:]
        dropped = _dropped(self._tree, [one.node for one in output.hypotheses])
        shown = dropped[:DROPPED]
        self._hidden = {"more texts": len(hidden_texts), "more dropped": len(dropped) - len(shown)}
        drawn = self._tree.above([*self._texts, *shown])
        self._kept = self._tree.above(list(self._texts))
        self._children = [
            [child for child in below if child in drawn] for below in self._tree.children()
        ]

    def hang(self, parent: Tree, node: int) -> None:
        """Hang all that is drawn below a node onto it."""
        todo = [(parent, node)]  # no recursion: texts are longer than its limit
        while todo:
            above, start = todo.pop()
            for child in self._children[start]:
                chain = [child]
                while len(self._children[chain[-1]]) == 1 and chain[-1] not in self._texts:
                    chain.append(self._children[chain[-1]][0])
                todo.append((above.add(self._label(start, chain)), chain[-1]))
        for what, count in self._hidden.items():
            if count:
                parent.add(Text(f"({count} {what})", "dim"))

    def _label(self, above: int, chain: Sequence[int]) -> Text:
        last = chain[-1]
        style = "dim"
        if last in self._winners:
            style = "bold green"
        elif last in self._kept:
            style = ""
        label = Text(_line(self._piece(above, chain)), style)
        if mark := self._mark(last):
            label.append(f"  [{mark}]", "bold" if last == self._best else "dim")
        return label

    def _mark(self, node: int) -> str:
        found = self._texts.get(node)
        if found is not None:
            best = "best " if node == self._best else ""
            return f"{best}{found.score:.3f}, {found.end or 'unfinished'}"
        if self._children[node]:
            return ""
        score = self._tree.finished.get(node)
        return "dropped" if score is None else f"{score:.3f}, dropped"

    def _piece(self, above: int, chain: Sequence[int]) -> str:
        """Return the text of a chain of nodes below a node, as it reads there."""
        tokens = self._tree.tokens
        before = [tokens[0], *self._tree.text(above)]
        earlier = self._decode(before).rstrip("\N{REPLACEMENT CHARACTER}")
        return self._decode([*before, *(tokens[node] for node in chain)])[len(earlier) :]

    def _decode(self, tokens: list[int]) -> str:
        text = self._tokenizer.decode(
            tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(text)


def _dropped(tree: "BeamTree", texts: Sequence[int]) -> list[int]:
    """Return the ends of all branches no text goes through, those that lived longest first."""
    kept = tree.above(texts)
    inner = set(tree.parents)
    lengths = [0] * len(tree)
    for node, parent in enumerate(tree.parents):
        if node not in kept:
            lengths[node] = 1 + lengths[parent]
    ends = [node for node in range(len(tree)) if node not in kept and node not in inner]
    return sorted(ends, key=lambda node: -lengths[node])


def _line(text: str) -> str:
    return visible(text.replace("\n", "\\n").replace("\t", "\\t"))
