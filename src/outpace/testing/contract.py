"""What a drafter, a verifier, a length controller and a cache must hold."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch

from ..cache import Session
from ..decoder import Decoder
from ..drafters import Drafter
from ..drafters.none import NoDrafter
from ..errors import DrawRefused
from ..lengths import LengthController
from ..lengths.fixed import FixedLength
from ..models import LanguageModel
from ..models.tiny import tiny_model
from ..noise import Noise
from ..sampling import Sampler
from ..types import Budget, Context, Draw, TokenTree
from ..verifiers import Verifier
from .laws import (
    ToyLaw,
    drawn_trees,
    emitted_law,
    target_law,
    total_variation,
    written_law,
)
from .trees import need, random_tree, walks

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
    need(tree.tokens.dtype == torch.int64, "tree.tokens must be int64")
    need(tokens[0] == context.tokens[-1], "node 0 must be the last token of the context")
    need(parents[0] == -1, "the root's parent must be -1")
    need(
        all(0 <= parent < node for node, parent in enumerate(parents) if node),
        "parents[i] must be a node before i",
    )
    need(
        not tree.is_chain or parents == list(range(-1, len(tree) - 1)),
        "is_chain is set on a tree that is none",
    )
    depths = [0]
    for node in range(1, len(tree)):
        depths.append(depths[parents[node]] + 1)
    need(
        len(tree) - 1 <= budget.nodes,
        f"{len(tree) - 1} draft tokens, the budget has {budget.nodes}",
    )
    need(max(depths) <= budget.depth, f"{max(depths)} deep, the budget has {budget.depth}")
    if tree.draw in {"iid", "without_replacement"} and len(tree) > 1:
        need(tree.log_q is not None, f"a tree drawn as {tree.draw!r} needs log_q")


class _Watched(Drafter):
    """Hands everything on and checks every tree on its way."""

    def __init__(self, inner: Drafter) -> None:
        self._inner = inner
        self.exact, self.wants = inner.exact, inner.wants
        self.branches, self.budget = inner.branches, inner.budget
        self.attach, self.start = inner.attach, inner.start  # type: ignore[method-assign]
        self.observe, self.reset = inner.observe, inner.reset  # type: ignore[method-assign]
        self.look, self.costs = inner.look, inner.costs  # type: ignore[method-assign]

    @property
    def models(self) -> tuple[LanguageModel, ...]:
        return self._inner.models

    def propose(self, context: Context, budget: Budget, drawing: object) -> TokenTree:
        before = list(context.tokens)
        tree = self._inner.propose(context, budget, drawing)  # type: ignore[arg-type]
        need(context.tokens == before, "propose must not change the context")
        check_tree(tree, context, budget)
        return tree


def check_drafter(
    make: Callable[[], Drafter], *, target: LanguageModel | None = None, new_tokens: int = 64
) -> None:
    """Check a drafter: valid trees within the budget, and the text of plain decoding.

    Every prompt of :data:`PROMPTS` is continued under every setting of :data:`SETTINGS` with
    draft lengths 1 and 5, with the drafter's own budget if it has one, and as much as the gate
    lets through, on one drafter that goes on from text to text, and once more after ``reset``.
    Then a text is continued in a session.

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
    decoders = {str(k): Decoder(target, drafter, lengths=FixedLength(k)) for k in (1, 5)}
    if drafter.budget is not None:
        decoders["its own"] = Decoder(target, drafter, lengths=FixedLength())
    decoders["gate"] = Decoder(target, drafter)
    *_, last = decoders.values()
    for prompt, settings in itertools.product(PROMPTS, SETTINGS):
        wanted = plain.generate(prompt, max_new_tokens=new_tokens, **settings)  # type: ignore[arg-type]
        for attempt, (length, decoder) in itertools.product(
            ("at first", "after reset"), decoders.items()
        ):
            got = decoder.generate(prompt, max_new_tokens=new_tokens, **settings)  # type: ignore[arg-type]
            need(
                got.tokens == wanted.tokens,
                f"{attempt}, K = {length}, prompt {prompt[:8]}, {settings or 'greedy'}: not "
                f"plain decoding's text from token {_first(got.tokens, wanted.tokens)}",
            )
            if decoder is last:
                drafter.reset()
    decoder = Decoder(target, drafter)
    session, text = decoder.session(), list(PROMPTS[2])
    for _ in range(3):
        wanted = plain.generate(text, max_new_tokens=16)
        got = decoder.generate(text, max_new_tokens=16, session=session)
        need(got.tokens == wanted.tokens, "in a session the text differs from plain decoding")
        text += [*got.tokens, 33, 34]


def check_lengths(make: Callable[[], LengthController]) -> None:
    """Check a length controller: its budgets can be drafted, and the text does not depend on it.

    Raises:
        ContractBroken: naming the rule.
    """
    from ..drafters.prompt_lookup import PromptLookupDrafter

    target, controller = tiny_model(), make()
    decoder = Decoder(target, PromptLookupDrafter(), lengths=controller)
    plain = Decoder(target, NoDrafter())
    for prompt, settings in itertools.product(PROMPTS, SETTINGS):
        got = decoder.generate(prompt, max_new_tokens=48, **settings)  # type: ignore[arg-type]
        wanted = plain.generate(prompt, max_new_tokens=48, **settings)  # type: ignore[arg-type]
        need(got.tokens == wanted.tokens, "the text differs from plain decoding")
        budget = controller.next(Context(prompt))
        need(0 <= budget.depth <= budget.nodes <= 63, f"{budget}: give 0 <= depth <= nodes <= 63")


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
        tree, path = random_tree(generator, model.vocabulary)
        logits = session.forward(tree)
        kept = [int(t) for t in session.tokens]
        for node, walk in enumerate(walks(tree)):
            if node % 3 == 0:
                fresh = Session(model).prefill([*kept, *walk])
                worst = float((fresh - logits[node]).abs().max())
                need(worst <= tolerance, f"round {number}, node {node}: logits off by {worst:.2g}")
        session.commit(tree, path)
        session.rollback(max(1, len(session) - back))
        need(len(session) == len(session.tokens), "tokens and slots are of different length")


def _first(one: Sequence[int], two: Sequence[int]) -> int:
    pairs = enumerate(zip(one, two, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(two)))


def check_verifier(make: Callable[[], Verifier]) -> None:
    """Check a verifier on toy laws.

    One that promises the same text must emit plain decoding's tokens for any tree, under injected
    noise. One that promises the law is enumerated exactly over chains, and over trees if it
    takes them, drawn from another law: total variation below 1e-6. Over several rounds no noise
    may serve twice.

    Raises:
        ContractBroken: naming the rule.
    """
    verifier = make()
    need(bool(verifier.draws), "draws is empty: the verifier takes no tree at all")
    if verifier.same_text:
        _check_same_text(verifier)
        return
    for vocabulary, depth, seed in ((4, 1, 1), (4, 2, 2), (6, 2, 3), (4, 3, 4)):
        target, drafter = ToyLaw(vocabulary, seed=seed), ToyLaw(vocabulary, seed=seed + 100)
        got, own = emitted_law(verifier, target, drawn_trees(drafter), steps=depth + 1, depth=depth)
        off = total_variation(got, own)
        need(off < 1e-6, f"V = {vocabulary}, depth {depth}: the law is off by {off:.2g}")
    target, drafter = ToyLaw(3, seed=5), ToyLaw(3, seed=105)
    laws: tuple[Draw, ...] = ("iid", "without_replacement")
    for draw in laws:
        if draw not in verifier.draws:
            continue
        propose = drawn_trees(drafter, (2, 1), draw)
        try:
            got, own = emitted_law(verifier, target, propose, steps=2, depth=2)
        except DrawRefused:  # it takes chains only
            continue
        off = total_variation(got, own)
        need(off < 1e-6, f"a tree drawn as {draw!r}: the law is off by {off:.2g}")
    _check_rounds(verifier)


def _check_rounds(verifier: Verifier) -> None:
    """Check texts of several rounds with one noise for all of them."""
    target, steps = ToyLaw(2, seed=6), 4

    def write(noise: Noise) -> Sequence[int]:
        text = [0]
        while len(text) <= steps:
            tree = TokenTree.chain(text[-1], [len(text) % 2, 1, 0])
            sampler = Sampler(Context(text), [], greedy=False, noise=noise)
            text += verifier.verify(tree, target.at(tree, text), sampler).tokens
        return text[1 : steps + 1]

    off = total_variation(written_law(write), target_law(target, steps))
    need(off < 1e-6, f"over several rounds: the law is off by {off:.2g}")


def _check_same_text(verifier: Verifier) -> None:
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        target = ToyLaw(5, seed=seed)
        greedy = seed % 4 == 0
        text = [0]
        noise = Noise(seed)
        while len(text) < 8:
            tree, _ = random_tree(generator, 5)
            tokens, parents = tree.lists()
            tree = TokenTree(torch.tensor([text[-1], *tokens[1:]]), torch.tensor(parents))
            sampler = Sampler(Context(text), [], greedy=greedy, noise=noise)
            verdict = verifier.verify(tree, target.at(tree, text), sampler)
            for token in verdict.tokens:
                sampler = Sampler(Context(text), [], greedy=greedy, noise=noise)
                own = int(sampler.choose(target.logits(text)))
                need(token == own, f"seed {seed}, index {len(text)}: {token}, plain writes {own}")
                text.append(token)
