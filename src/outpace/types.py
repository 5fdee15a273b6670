"""Values that flow through the loop: Context, Budget, TokenTree, Verdict, Round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .transfer import at_hand, sent

Draw = Literal["coupled", "iid", "without_replacement", "deterministic"]
"""How the children of a node were chosen. ``deterministic``: by a rule without a law (n-grams,
lookup, greedy); the other three name the law or noise they were drawn with."""

Kind = Literal["accepted", "recovered", "bonus", "plain"]
"""What an emitted token is: an accepted draft token, the target's own token where a draft was
rejected, the extra token after a wholly accepted draft, or one of a round without a draft."""


class Context:
    """Prompt and output so far.

    Attributes:
        tokens: all token ids, prompt first.
        prompt_length: how many of them are the prompt.
        device: where :meth:`ids` lie.
    """

    def __init__(self, prompt: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.tokens = list(prompt)
        self.prompt_length = len(self.tokens)
        self.device = torch.device(device)
        self._buffer: Tensor | None = None
        self._written = 0

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def output(self) -> list[int]:
        """The tokens emitted so far."""
        return self.tokens[self.prompt_length :]

    def extend(self, tokens: Sequence[int]) -> None:
        """Append emitted tokens."""
        self.tokens.extend(tokens)

    def ids(self, path: Sequence[int | Tensor] = ()) -> Tensor:
        """Return ``[1, T + len(path)]``: all tokens, then ``path`` (ids or 0-d tensors).

        The tensor is a view of one buffer: the next call overwrites what lies past the tokens.
        """
        total = len(self.tokens) + len(path)
        if self._buffer is None or self._buffer.shape[1] < total:
            grown = torch.zeros(1, max(256, 2 * total), dtype=torch.int64, device=self.device)
            if self._buffer is not None:
                grown[:, : self._written] = self._buffer[:, : self._written]
            self._buffer = grown
        if self._written < len(self.tokens):
            fresh = torch.tensor(self.tokens[self._written :], dtype=torch.int64)
            self._buffer[0, self._written : len(self.tokens)] = fresh
            self._written = len(self.tokens)
        for offset, token in enumerate(path):
            self._buffer[0, self._written + offset] = token
        return self._buffer[:, :total]


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be drafted in a round.

    Attributes:
        nodes: draft tokens at most.
        depth: how deep at most.
        confidence: a chain of a draft model ends with the first token that the model is less sure
            of than this probability, that token kept; None is off. Others need not heed it.
    """

    nodes: int
    depth: int
    confidence: float | None = None

    @classmethod
    def chain(cls, length: int) -> "Budget":
        """A budget for ``length`` draft tokens in a row."""
        return cls(length, length)

    def clip(self, depth: int) -> "Budget":
        """The same budget, no deeper than ``depth``."""
        if depth >= self.depth:
            return self
        depth = max(0, depth)
        return Budget(self.nodes if depth else 0, depth, self.confidence)


@dataclass(slots=True)
class TokenTree:
    """Draft tokens as a tree; a chain is a tree with branching one.

    Attributes:
        tokens: ``[N]`` int64. Node 0 is the last token of the context: decided, but its keys and
            values are not in the target's cache yet.
        parents: ``[N]`` int64, ``parents[i] < i``; ``parents[0]`` is -1.
        draw: how the children of a node were chosen.
        log_q: ``[M, V]`` log-probabilities; row i is the law the children of node i were drawn
            from. Only with the draws ``iid`` and ``without_replacement``.
        is_chain: every node's parent is the node before it.
        scores: per node how sure the drafter is of the whole path to it, a log-probability; None
            where the drafter has no such figure.
    """

    tokens: Tensor
    parents: Tensor
    draw: Draw = "deterministic"
    log_q: Tensor | None = None
    is_chain: bool = False
    scores: Sequence[float] | None = None
    _lists: tuple[list[int], list[int]] | None = field(default=None, repr=False)

    @classmethod
    def chain(
        cls,
        root: int,
        drafted: Sequence[int] | Tensor = (),
        *,
        draw: Draw = "deterministic",
        log_q: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> "TokenTree":
        """Return root → drafted[0] → drafted[1] …; a tensor of draft tokens stays where it is."""
        count, lists = len(drafted) + 1, None
        known = at_hand(drafted) if isinstance(drafted, Tensor) else drafted
        if known is None:
            assert isinstance(drafted, Tensor)
            tokens = torch.cat([sent([root], drafted.device), drafted])
        else:
            values = [root, *known]
            tokens = sent(values, torch.device(device))
            lists = (values, list(range(-1, count - 1)))
        return cls(
            tokens,
            _one_after_the_other(count, tokens.device),
            draw,
            log_q,
            is_chain=True,
            _lists=lists,
        )

    @classmethod
    def of(
        cls,
        tokens: list[int],
        parents: list[int],
        *,
        draw: Draw = "deterministic",
        log_q: Tensor | None = None,
        scores: Sequence[float] | None = None,
        device: torch.device | str = "cpu",
    ) -> "TokenTree":
        """Return the tree of nodes that are known on the host, the root first."""
        both = sent([tokens, parents], torch.device(device))
        is_chain = parents == list(range(-1, len(parents) - 1))
        return cls(both[0], both[1], draw, log_q, is_chain, scores, (tokens, parents))

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def lists(self) -> tuple[list[int], list[int]]:
        """Return tokens and parents as lists; the first call may wait for the device."""
        if self._lists is None:
            tokens, parents = torch.stack([self.tokens, self.parents]).tolist()
            self._lists = (tokens, parents)
        return self._lists

    def lists_with(self, choices: Tensor) -> tuple[list[int], list[int], list[int]]:
        """Return tokens, parents and ``choices [N]`` as lists, in one transfer."""
        if self._lists is not None:
            return (*self._lists, choices.tolist())
        tokens, parents, chosen = torch.stack([self.tokens, self.parents, choices]).tolist()
        self._lists = (tokens, parents)
        return tokens, parents, chosen

    def depths(self) -> Tensor:
        """Return ``[N]``: how many steps each node lies below the root."""
        if self.is_chain:
            return torch.arange(len(self), device=self.tokens.device)
        if self._lists is not None:
            return sent(self._depths(), self.tokens.device)
        return self.ancestors().sum(dim=1) - 1

    def deepest(self) -> int:
        """Return how many levels lie below the root; may wait for the device."""
        if self.is_chain:
            return len(self) - 1
        self.lists()
        return max(self._depths())

    def _depths(self) -> list[int]:
        assert self._lists is not None
        depths: list[int] = []
        for parent in self._lists[1]:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return depths

    def ancestors(self) -> Tensor:
        """Return bool ``[N, N]``: entry (i, j) is True where j is i or an ancestor of i."""
        count, device = len(self), self.tokens.device
        if self.is_chain:
            return causal(count, device)
        if self._lists is not None and device.type == "cpu":
            rows = np.eye(count, dtype=np.bool_)
            for node, parent in enumerate(self._lists[1][1:], start=1):
                rows[node] |= rows[parent]
            return torch.from_numpy(rows)
        # A parent comes before its children, so repeated gathers reach every ancestor without a
        # look at the values on the host; squaring the step halves their number.
        reach = torch.eye(count, dtype=torch.bool, device=device)
        up = self.parents.clamp(min=0)
        for _ in range(max(1, (count - 1).bit_length())):
            reach = reach | reach[up]
            up = up[up]
        # the root is everybody's ancestor; clamping made it its own parent, which changes nothing
        return reach


@lru_cache(maxsize=256)
def _one_after_the_other(count: int, device: torch.device) -> Tensor:
    return torch.arange(-1, count - 1, device=device)


@lru_cache(maxsize=256)
def causal(count: int, device: torch.device) -> Tensor:
    """Return bool ``[count, count]``: each of a chain's nodes sees itself and all before it."""
    return torch.ones(count, count, dtype=torch.bool, device=device).tril_()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the target made of a tree.

    Attributes:
        path: the accepted nodes, in order, without the root.
        tokens: the tokens emitted: the accepted ones, then exactly one more.
        choices: per node the target's own token there, -1 where it was not needed.
    """

    path: list[int]
    tokens: list[int]
    choices: list[int]


@dataclass(frozen=True, slots=True)
class Times:
    """Clock readings of one round, in seconds on the decoder's clock."""

    started: float
    drafted: float
    verified: float
    committed: float


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of the loop, as everything outside the loop sees it.

    Attributes:
        index: 0 for the round that prefills the prompt.
        tree: what was drafted (the root alone in round 0 and in plain decoding).
        verdict: what the target accepted.
        tokens: what was emitted: ``verdict.tokens``, cut where the text ends.
        kinds: one of ``accepted``, ``recovered``, ``bonus``, ``plain`` per emitted token.
        pieces: the text each token completes; an unfinished character is held back.
        times: clock readings.
        end: None, or why the text ends here: ``eos``, ``stop``, ``length`` or ``context``.
        extras: what the drafter wanted from the target beyond the verdict; ``topk:k`` is
            ``[len(path) + 1, k]``, the target's best tokens at the root and the accepted nodes,
            ``topk-all:k`` is ``[N, k]``, those at every node; k is at most the vocabulary. They
            lie where the target computes.
        budget: what the drafter was allowed; None in round 0.
    """

    index: int
    tree: TokenTree
    verdict: Verdict
    tokens: tuple[int, ...]
    kinds: tuple[Kind, ...]
    pieces: Sequence[str]
    times: Times
    end: str | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    budget: Budget | None = None

    @property
    def drafted(self) -> int:
        """How many draft tokens the round had."""
        return len(self.tree) - 1

    @property
    def text(self) -> str:
        """The text this round completes."""
        return "".join(self.pieces)
