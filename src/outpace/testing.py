"""The public conformance suite: what a drafter, verifier, length controller or cache must hold.

Run one of the ``check_`` functions in a test of your own; it raises :class:`ContractBroken` with
the rule that was broken. The toy law at the end of the file is small enough to enumerate.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from .cache import Session
from .decoder import Decoder
from .drafters import Drafter
from .drafters.none import NoDrafter
from .lengths import LengthController
from .lengths.fixed import FixedLength
from .models import LanguageModel
from .models.tiny import tiny_model
from .sampling import Noise, Sampler
from .types import Budget, Context, TokenTree, Verdict
from .verifiers import Verifier

T = TypeVar("T")

__all__ = [
    "ContractBroken",
    "EnumeratedNoise",
    "ToyLaw",
    "check_cache",
    "check_drafter",
    "check_lengths",
    "check_tree",
    "check_verifier",
    "emitted_law",
    "enumerate_noise",
    "tiny_model",
    "total_variation",
]


class ContractBroken(AssertionError):
    """A component does not do what the loop relies on."""


def _need(condition: bool, rule: str) -> None:
    if not condition:
        raise ContractBroken(rule)


PROMPTS = (
    [7],
    [10, 20],
    [5, 6, 7, 5, 6, 7, 5, 6],
    list(range(60, 100)),
)
SETTINGS: tuple[dict[str, float | int], ...] = (
    {},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
    {"temperature": 1.0, "seed": 11},
    {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.2, "seed": 12},
)


def check_tree(tree: TokenTree, context: Context, budget: Budget) -> None:
    """Check that a proposed tree is one, and within its budget."""
    tokens, parents = tree.lists()
    _need(tree.tokens.dtype == torch.int64, "tree.tokens must be int64")
    _need(tokens[0] == context.tokens[-1], "node 0 must be the last token of the context")
    _need(parents[0] == -1, "the root's parent must be -1")
    _need(
        all(0 <= parent < node for node, parent in enumerate(parents) if node),
        "parents[i] must be a node before i",
    )
    _need(
        not tree.is_chain or parents == list(range(-1, len(tree) - 1)),
        "is_chain is set on a tree that is none",
    )
    depths = [0]
    for node in range(1, len(tree)):
        depths.append(depths[parents[node]] + 1)
    _need(
        len(tree) - 1 <= budget.nodes,
        f"{len(tree) - 1} draft tokens, the budget has {budget.nodes}",
    )
    _need(max(depths) <= budget.depth, f"{max(depths)} deep, the budget has {budget.depth}")
    if tree.draw in {"iid", "without_replacement"} and len(tree) > 1:
        _need(tree.log_q is not None, f"a tree drawn as {tree.draw!r} needs log_q")


class _Watched(Drafter):
    """Hands everything on and checks every tree on its way."""

    def __init__(self, inner: Drafter) -> None:
        self._inner = inner
        self.exact, self.wants = inner.exact, inner.wants
        self.attach, self.start = inner.attach, inner.start  # type: ignore[method-assign]
        self.observe, self.reset = inner.observe, inner.reset  # type: ignore[method-assign]

    def propose(self, context: Context, budget: Budget, drawing: object) -> TokenTree:
        before = list(context.tokens)
        tree = self._inner.propose(context, budget, drawing)  # type: ignore[arg-type]
        _need(context.tokens == before, "propose must not change the context")
        check_tree(tree, context, budget)
        return tree


def check_drafter(
    make: Callable[[], Drafter], *, target: LanguageModel | None = None, new_tokens: int = 64
) -> None:
    """Check a drafter: valid trees within the budget, and the text of plain decoding.

    Every prompt of :data:`PROMPTS` is continued under every setting of :data:`SETTINGS` with
    draft lengths 1 and 5, on one drafter that goes on from text to text, and once more after
    ``reset``. Then a text is continued in a session.

    Args:
        make: returns a fresh drafter.
        target: the model to draft for; None is a tiny random one.
        new_tokens: how many tokens each text gets.

    Raises:
        ContractBroken: naming the rule.
    """
    target = tiny_model() if target is None else target
    plain = Decoder(target, NoDrafter())
    drafter = _Watched(make())
    for length in (1, 5):
        decoder = Decoder(target, drafter, lengths=FixedLength(length))
        for prompt, settings in itertools.product(PROMPTS, SETTINGS):
            wanted = plain.generate(prompt, max_new_tokens=new_tokens, **settings)  # type: ignore[arg-type]
            for attempt in ("at first", "after reset"):
                got = decoder.generate(prompt, max_new_tokens=new_tokens, **settings)  # type: ignore[arg-type]
                _need(
                    got.tokens == wanted.tokens,
                    f"{attempt}, K = {length}, prompt {prompt[:8]}, {settings or 'greedy'}: not "
                    f"plain decoding's text from token {_first(got.tokens, wanted.tokens)}",
                )
                drafter.reset()
    decoder = Decoder(target, drafter)
    session, text = decoder.session(), list(PROMPTS[2])
    for _ in range(3):
        wanted = plain.generate(text, max_new_tokens=16)
        got = decoder.generate(text, max_new_tokens=16, session=session)
        _need(got.tokens == wanted.tokens, "in a session the text differs from plain decoding")
        text += [*got.tokens, 33, 34]


def check_lengths(make: Callable[[], LengthController]) -> None:
    """Check a length controller: its budgets can be drafted, and the text does not depend on it.

    Raises:
        ContractBroken: naming the rule.
    """
    from .drafters.prompt_lookup import PromptLookupDrafter

    target, controller = tiny_model(), make()
    decoder = Decoder(target, PromptLookupDrafter(), lengths=controller)
    plain = Decoder(target, NoDrafter())
    for prompt, settings in itertools.product(PROMPTS, SETTINGS):
        got = decoder.generate(prompt, max_new_tokens=48, **settings)  # type: ignore[arg-type]
        wanted = plain.generate(prompt, max_new_tokens=48, **settings)  # type: ignore[arg-type]
        _need(got.tokens == wanted.tokens, "the text differs from plain decoding")
        budget = controller.next(Context(prompt))
        _need(0 <= budget.depth <= budget.nodes <= 63, f"{budget}: give 0 <= depth <= nodes <= 63")


def check_cache(
    model: LanguageModel, steps: Sequence[tuple[int, int]], *, tolerance: float = 1e-4
) -> None:
    """Check that after any rounds the logits are those of a fresh forward over the kept text.

    Args:
        model: the model whose slots are checked.
        steps: per round a seed for the tree, and how far back to roll afterwards.
        tolerance: largest difference of a logit.

    Raises:
        ContractBroken: naming the round.
    """
    session = Session(model)
    session.prefill([1, 2, 3])
    for number, (seed, back) in enumerate(steps):
        generator = torch.Generator().manual_seed(seed)
        tree, path = _random_tree(generator, model.vocabulary)
        logits = session.forward(tree)
        kept = [int(t) for t in session.tokens]
        for node, walk in enumerate(_walks(tree)):
            if node % 3 == 0:
                fresh = Session(model).prefill([*kept, *walk])
                worst = float((fresh - logits[node]).abs().max())
                _need(worst <= tolerance, f"round {number}, node {node}: logits off by {worst:.2g}")
        session.commit(tree, path)
        session.rollback(max(1, len(session) - back))
        _need(len(session) == len(session.tokens), "tokens and slots are of different length")


def _random_tree(generator: torch.Generator, vocabulary: int) -> tuple[TokenTree, list[int]]:
    count = int(torch.randint(1, 12, (), generator=generator))
    tokens = torch.randint(vocabulary, (count,), generator=generator)
    parents = [-1] + [int(torch.randint(n, (), generator=generator)) for n in range(1, count)]
    tree = TokenTree(tokens, torch.tensor(parents))
    node = int(torch.randint(count, (), generator=generator))
    path: list[int] = []
    while node:
        path.insert(0, node)
        node = parents[node]
    return tree, path


def _walks(tree: TokenTree) -> list[list[int]]:
    """Return for every node the tokens from the root to it."""
    tokens, parents = tree.lists()
    walks = [[tokens[0]]]
    for node in range(1, len(tree)):
        walks.append([*walks[parents[node]], tokens[node]])
    return walks


def _first(one: Sequence[int], two: Sequence[int]) -> int:
    pairs = enumerate(zip(one, two, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(two)))


# --- laws, enumerated ---------------------------------------------------------------------------


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
        return torch.stack([self.logits([*text[:-1], *walk]) for walk in _walks(tree)])


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
        _need((purpose, t, index) not in self._used, f"noise ({purpose}, {t}, {index}) used twice")
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


def check_verifier(make: Callable[[], Verifier]) -> None:
    """Check a verifier on toy laws.

    One that promises the same text must emit plain decoding's tokens for any tree, under injected
    noise. One that promises the law is enumerated exactly over chains drawn from another law:
    total variation below 1e-6 over three tokens.

    Raises:
        ContractBroken: naming the rule.
    """
    verifier = make()
    _need(bool(verifier.draws), "draws is empty: the verifier takes no tree at all")
    if verifier.same_text:
        _check_same_text(verifier)
        return
    for vocabulary, depth, seed in ((4, 1, 1), (4, 2, 2), (6, 2, 3), (4, 3, 4)):
        target, drafter = ToyLaw(vocabulary, seed=seed), ToyLaw(vocabulary, seed=seed + 100)
        got, own = emitted_law(verifier, target, iid_chains(drafter), steps=depth + 1, depth=depth)
        off = total_variation(got, own)
        _need(off < 1e-6, f"V = {vocabulary}, depth {depth}: the law is off by {off:.2g}")


def _check_same_text(verifier: Verifier) -> None:
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        target = ToyLaw(5, seed=seed)
        greedy = seed % 4 == 0
        text = [0]
        noise = Noise(seed)
        while len(text) < 8:
            tree, _ = _random_tree(generator, 5)
            tokens, parents = tree.lists()
            tree = TokenTree(torch.tensor([text[-1], *tokens[1:]]), torch.tensor(parents))
            sampler = Sampler(Context(text), [], greedy=greedy, noise=noise)
            verdict = verifier.verify(tree, target.at(tree, text), sampler)
            for token in verdict.tokens:
                sampler = Sampler(Context(text), [], greedy=greedy, noise=noise)
                own = int(sampler.choose(target.logits(text)))
                _need(token == own, f"seed {seed}, index {len(text)}: {token}, plain writes {own}")
                text.append(token)
