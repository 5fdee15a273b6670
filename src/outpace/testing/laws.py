"""Laws over a few tokens, and every way their noise can fall: enumerated, not sampled."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ..sampling import Noise, Sampler
from ..types import Context, TokenTree, Verdict
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
        self._once("accept", t, index)
        yes = min(1.0, probability)
        return self._fork([1.0 - yes, yes]) == 1

    def draw(self, probabilities: Tensor, t: int) -> int:
        """Fork into every token."""
        self._once("draw", t, 0)
        weights = probabilities.to(torch.float64)
        return self._fork((weights / weights.sum()).tolist())

    def gumbel(self, ts: Sequence[int], size: int, device: torch.device, stream: int) -> Tensor:
        """Continuous noise has no forks."""
        raise ContractBroken("a law is enumerated through accept() and draw() alone")

    def _once(self, purpose: str, t: int, index: int) -> None:
        need((purpose, t, index) not in self._used, f"noise ({purpose}, {t}, {index}) used twice")
        self._used.add((purpose, t, index))

    def _fork(self, weights: Sequence[float]) -> int:
        place = len(self.forks)
        taken = self._script[place] if place < len(self._script) else 0
        self.forks.append(len(weights))
        self.probability *= weights[taken]
        return taken


def enumerate_noise(run: Callable[[Noise], T]) -> Iterator[tuple[T, float]]:
    """Call ``run`` once for every way its noise can fall; yield results and probabilities."""
    script: list[int] | None = []
    while script is not None:
        noise = EnumeratedNoise(script)
        result = run(noise)
        if noise.probability > 0:
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
    verifier: Verifier, target: ToyLaw, propose: Propose, *, steps: int, depth: int
) -> tuple[Law, Law]:
    """Return the law of the first ``steps`` tokens under a verifier, and the target's own.

    Args:
        verifier: what is checked.
        target: the law to keep.
        propose: from the text and a depth to every tree the drafter may draw, with probabilities.
        steps: how many tokens.
        depth: how deep to draft.
    """
    root = [0]

    def sampler(text: Sequence[int], noise: Noise) -> Sampler:
        return Sampler(Context(text), [], greedy=False, noise=noise)

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
    own: Law = {}
    for whole in itertools.product(range(target.vocabulary), repeat=steps):
        own[whole] = 1.0
        for place, token in enumerate(whole):
            before = [*root, *whole[:place]]
            own[whole] *= float(
                sampler(before, Noise(0)).probabilities(target.logits(before))[token]
            )
    return emitted, own


def total_variation(one: Law, two: Law) -> float:
    """Return half the sum of absolute differences of two laws."""
    return sum(abs(one.get(k, 0.0) - two.get(k, 0.0)) for k in {*one, *two}) / 2


def iid_chains(drafter: ToyLaw) -> Propose:
    """Return a drafter that draws chains token by token from its own law."""

    def propose(text: Sequence[int], depth: int) -> Iterator[tuple[TokenTree, float]]:
        for drafted in itertools.product(range(drafter.vocabulary), repeat=depth):
            rows, chance = [], 1.0
            for place, token in enumerate(drafted):
                log_q = torch.log_softmax(
                    drafter.logits([*text, *drafted[:place]]).to(torch.float64), dim=-1
                )
                rows.append(log_q)
                chance *= float(log_q[token].exp())
            yield TokenTree.chain(text[-1], drafted, draw="iid", log_q=torch.stack(rows)), chance

    return propose
