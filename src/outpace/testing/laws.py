"""Laws over a few tokens, and every way their noise can fall: enumerated, not sampled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..noise import Noise
from ..sampling import Sampler
from ..types import Context, Draw, TokenTree, Verdict
from ..verifiers import Verifier
from .trees import ContractBroken, need, walks

T = TypeVar("T")


class ToyLaw:
    """A law over a few tokens that depends on the text so far; small enough to enumerate.

    Args:
        vocabulary: how many tokens.
        seed: another seed, another law.
        sharpness: standard deviation of the logits.
    """

    def __init__(self, vocabulary: int = 4, *, seed: int = 0, sharpness: float = 1.0) -> None:
        self.vocabulary = vocabulary
        self._seed = seed
        self._sharpness = sharpness

    def logits(self, text: Sequence[int]) -> Tensor:
        """Return the logits ``[V]`` after ``text``, float32."""
        code = self._seed
        for token in text:
            code = (code * 1_000_003 + token + 1) % (2**31 - 1)
        generator = torch.Generator().manual_seed(code)
        return self._sharpness * torch.randn(self.vocabulary, generator=generator)

    def at(self, tree: TokenTree, text: Sequence[int]) -> Tensor:
        """Return the logits ``[N, V]`` at every node; ``text`` ends with the root."""
        return torch.stack([self.logits([*text[:-1], *walk]) for walk in walks(tree)])


class EnumeratedNoise(Noise):
    """Noise whose every draw is a fork; :func:`enumerate_noise` takes all of them.

    Raises:
        ContractBroken: the same noise is asked for twice.
    """

    def __init__(self, script: Sequence[int]) -> None:
        super().__init__(0)
        self.probability = 1.0
        self.forks: list[int] = []
        self._script = script
        self._used: set[tuple[str, int, int]] = set()

    def accept(self, probability: float, t: int, index: int = 0) -> bool:
        """Fork into yes and no."""
        self.once("accept", t, index)
        yes = min(1.0, probability)
        return self.fork([1.0 - yes, yes]) == 1

    def draw(self, probabilities: Tensor, t: int) -> int:
        """Fork into every token."""
        self.once("draw", t, 0)
        weights = probabilities.to(torch.float64)
        return self.fork((weights / weights.sum()).tolist())

    def gumbel(self, ts: Sequence[int], size: int, device: torch.device, stream: int) -> Tensor:
        """Continuous noise has no forks."""
        raise ContractBroken("a law is enumerated through accept() and draw() alone")

    def fork(self, weights: Sequence[float]) -> int:
        """Return one place of ``weights``, each in its own run; what has no weight is left out."""
        ways = [place for place, weight in enumerate(weights) if weight > 0]
        need(bool(ways), "every way this noise can fall has probability 0")
        place = len(self.forks)
        taken = ways[self._script[place] if place < len(self._script) else 0]
        self.forks.append(len(ways))
        self.probability *= weights[taken]
        return taken

    def once(self, purpose: str, t: int, index: int) -> None:
        """Note that this noise is used; no noise serves two purposes."""
        need((purpose, t, index) not in self._used, f"noise ({purpose}, {t}, {index}) used twice")
        self._used.add((purpose, t, index))


def enumerate_noise(run: Callable[[Noise], T]) -> Iterator[tuple[T, float]]:
    """Call ``run`` once for every way its noise can fall; yield results and probabilities."""
    script: list[int] | None = []
    while script is not None:
        noise = EnumeratedNoise(script)
        result = run(noise)
        yield result, noise.probability
        taken = [*script, *[0] * (len(noise.forks) - len(script))]
        script = None
        for place in reversed(range(len(taken))):
            if taken[place] + 1 < noise.forks[place]:
                script = [*taken[:place], taken[place] + 1]
                break


Law = dict[tuple[int, ...], float]
Propose = Callable[[Sequence[int], int], Iterator[tuple[TokenTree, float]]]


def emitted_law(
    verifier: Verifier,
    target: ToyLaw,
    propose: Propose,
    *,
    steps: int,
    depth: int,
    processors: Sequence[Any] = (),
) -> tuple[Law, Law]:
    """Return the law of the first ``steps`` tokens under a verifier, and the target's own.

    Args:
        verifier: what is checked.
        target: the law to keep.
        propose: from the text and a depth to every tree the drafter may draw, with probabilities.
        steps: how many tokens.
        depth: how deep to draft.
        processors: of the target's law.
    """
    root = [0]

    def sampler(text: Sequence[int], noise: Noise) -> Sampler:
        return Sampler(Context(text), processors, greedy=False, noise=noise)

    emitted: Law = {}
    pending: Law = {(): 1.0}
    while pending:
        written, weight = pending.popitem()
        text = [*root, *written]
        for tree, chance in propose(text, min(depth, steps - len(written))):
            logits = target.at(tree, text)

            def run(noise: Noise, tree: TokenTree = tree, logits: Tensor = logits) -> Verdict:
                return verifier.verify(tree, logits, sampler(text, noise))  # noqa: B023

            for verdict, fall in enumerate_noise(run):
                longer = (*written, *verdict.tokens)[:steps]
                law = emitted if len(longer) == steps else pending
                law[longer] = law.get(longer, 0.0) + weight * chance * fall
    return emitted, target_law(target, steps, processors)


def target_law(target: ToyLaw, steps: int, processors: Sequence[Any] = ()) -> Law:
    """Return the law of the first ``steps`` tokens after the root 0 in plain decoding."""
    own: Law = {}
    for whole in itertools.product(range(target.vocabulary), repeat=steps):
        own[whole] = 1.0
        for place, token in enumerate(whole):
            before = [0, *whole[:place]]
            sampler = Sampler(Context(before), processors, greedy=False, noise=Noise(0))
            own[whole] *= float(sampler.probabilities(target.logits(before))[token])
    return own


def written_law(write: Callable[[Noise], Sequence[int]]) -> Law:
    """Return the law of what ``write`` writes, in as many rounds as it takes, with one noise."""
    law: Law = {}
    for text, fall in enumerate_noise(write):
        law[tuple(text)] = law.get(tuple(text), 0.0) + fall
    return law


def total_variation(one: Law, two: Law) -> float:
    """Return half the sum of absolute differences of two laws."""
    return sum(abs(one.get(k, 0.0) - two.get(k, 0.0)) for k in {*one, *two}) / 2


def drawn_trees(drafter: ToyLaw, branches: Sequence[int] = (1,), draw: Draw = "iid") -> Propose:
    """Return a drafter that draws trees from its own law, every way they can fall.

    Args:
        drafter: the law.
        branches: how many children a node has, by depth; the last number holds from there on.
        draw: ``iid``, or ``without_replacement``.
    """

    def grow(text: Sequence[int], tree: _Grown, level: int) -> Iterator[tuple[_Grown, float]]:
        nodes = [node for node, path in enumerate(tree.paths) if len(path) == level]
        count = branches[min(level, len(branches) - 1)]
        ways = []
        for node in nodes:
            law = _law(drafter, [*text, *tree.paths[node]]).exp().tolist()
            ways.append(list(_siblings(law, count, draw)))
        for fall in itertools.product(*ways):
            grown, chance = _Grown(list(tree.paths), list(tree.parents)), 1.0
            for node, (drawn, share) in zip(nodes, fall, strict=True):
                chance *= share
                grown.paths += [[*tree.paths[node], x] for x in drawn]
                grown.parents += [node] * count
            yield grown, chance

    def propose(text: Sequence[int], depth: int) -> Iterator[tuple[TokenTree, float]]:
        trees = [(_Grown([[]], [-1]), 1.0)]
        for level in range(depth):
            trees = [
                (grown, chance * further)
                for tree, chance in trees
                for grown, further in grow(text, tree, level)
            ]
        for tree, chance in trees:
            tokens = [text[-1], *(path[-1] for path in tree.paths[1:])]
            log_q = torch.stack([_law(drafter, [*text, *path]) for path in tree.paths])
            drawn = TokenTree(torch.tensor(tokens), torch.tensor(tree.parents), draw, log_q)
            drawn.is_chain = tree.parents == list(range(-1, len(tokens) - 1))
            yield drawn, chance

    return propose


@dataclass(slots=True)
class _Grown:
    """A tree under way: per node the tokens below the root, and the parent."""

    paths: list[list[int]]
    parents: list[int]


def _siblings(
    law: Sequence[float], count: int, draw: Draw
) -> Iterator[tuple[tuple[int, ...], float]]:
    if draw == "iid":
        for drawn in itertools.product(range(len(law)), repeat=count):
            yield drawn, math.prod(law[x] for x in drawn)
        return
    for drawn in itertools.permutations(range(len(law)), count):
        chance, left = 1.0, 1.0
        for x in drawn:
            chance, left = chance * law[x] / left, left - law[x]
        yield drawn, chance


def _law(drafter: ToyLaw, text: Sequence[int]) -> Tensor:
    return torch.log_softmax(drafter.logits(text).double(), dim=-1)
