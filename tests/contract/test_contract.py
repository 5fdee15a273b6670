"""Everything registered through the public conformance suite, and the suite against breakers."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outpace import Decoder, registry, testing
from outpace.compose import make_lengths
from outpace.drafters import Drafter
from outpace.drafters.bandit import BanditDrafter
from outpace.drafters.cascade import CascadeDrafter
from outpace.drafters.compressed_self import CompressedSelfDrafter
from outpace.drafters.early_exit import EarlyExitDrafter
from outpace.drafters.hierarchical import HierarchicalDrafter
from outpace.drafters.lookahead import LookaheadDrafter
from outpace.drafters.model import ModelDrafter
from outpace.drafters.ngram import NgramDrafter
from outpace.drafters.none import NoDrafter
from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.drafters.quantized_self import QuantizedSelfDrafter
from outpace.drafters.recycling import RecyclingDrafter
from outpace.drafters.retokenized import RetokenizedDrafter
from outpace.drafters.sources import Source
from outpace.drafters.suffix import SuffixDrafter
from outpace.drafters.suffix_store import SuffixStore
from outpace.drafters.tree import TreeDrafter
from outpace.errors import InvalidArgument
from outpace.lengths import LengthController
from outpace.types import Budget, TokenTree


def _sources():
    return [
        Source("lookup", PromptLookupDrafter(), Budget.chain(3)),
        Source("tree", TreeDrafter(testing.tiny_model(), "pruned(depth=3) + history(window=2)")),
        Source("model", ModelDrafter(testing.tiny_model(seed=1, layers=1))),
    ]


def shared_texts() -> SuffixStore:
    store = SuffixStore(200, longest=4)
    store.add([*range(60, 100), 5, 6, 7, 8])
    store.add([5, 6, 7, 5, 6, 9])
    return store


MADE = {
    "none": [NoDrafter],
    "prompt-lookup": [lambda: registry.get("drafter", "prompt-lookup")()],
    "ngram": [
        NgramDrafter,
        lambda: NgramDrafter(2, fillers=1),
        lambda: NgramDrafter(4, multilevel=False, fillers=0, keep=True),
        lambda: NgramDrafter(keep=True, capacity=40),
    ],
    "recycling": [
        RecyclingDrafter,
        lambda: RecyclingDrafter((0.9, 0.5), keep=True),
        lambda: RecyclingDrafter((0.5,) * 300, everywhere=False),  # more than the vocabulary has
    ],
    "lookahead": [
        LookaheadDrafter,
        lambda: LookaheadDrafter(1, 2, 1, text=False),
        lambda: LookaheadDrafter(6, 5, 8, capacity=9),
    ],
    "suffix": [
        SuffixDrafter,
        lambda: SuffixDrafter(0.5, longest=2),
        lambda: SuffixDrafter(8.0, keep=True),
        lambda: SuffixDrafter(keep=True, capacity=40, shared=shared_texts()),
    ],
    "quantized-self": [QuantizedSelfDrafter, lambda: QuantizedSelfDrafter(head=True)],
    "tree": [
        lambda: TreeDrafter(testing.tiny_model(seed=0), "fixed(depth=3, branch=2)"),
        lambda: TreeDrafter(testing.tiny_model(seed=1, layers=1), "pruned + adaptive_breadth"),
        lambda: TreeDrafter(testing.tiny_model(seed=0, context_length=48), "best_first"),
    ],
    "retokenized": [
        lambda: RetokenizedDrafter(testing.tiny_model()),
        lambda: RetokenizedDrafter(testing.tiny_model(seed=1, context_length=48)),
    ],
    "early-exit": [EarlyExitDrafter, lambda: EarlyExitDrafter(1)],
    "compressed-self": [
        lambda: CompressedSelfDrafter("streaming(1, 6, every=2)"),
        lambda: CompressedSelfDrafter("key_norm(0.5, 0, 6, 3)", precision="int8"),
    ],
    "hierarchical": [
        lambda: HierarchicalDrafter(
            testing.tiny_model(seed=1), "recent(6, every=2)", "recent(4, every=1)", ahead=2
        ),
    ],
    "cascade": [CascadeDrafter, lambda: CascadeDrafter(_sources())],
    "bandit": [BanditDrafter, lambda: BanditDrafter(_sources(), fading=0.5)],
    "model": [
        lambda: ModelDrafter(testing.tiny_model(seed=0)),
        lambda: ModelDrafter(testing.tiny_model(seed=1, layers=1)),
        lambda: ModelDrafter(testing.tiny_model(seed=0, context_length=48)),
    ],
}


def test_every_registered_drafter_is_checked():
    assert set(MADE) == set(registry.DRAFTERS)


@pytest.mark.parametrize(
    "make", [pytest.param(m, id=f"{n}-{i}") for n, ms in MADE.items() for i, m in enumerate(ms)]
)
def test_drafters(make):
    testing.check_drafter(make, new_tokens=32)


@pytest.mark.parametrize("name", registry.names("verifier"))
def test_verifiers(name):
    testing.check_verifier(registry.get("verifier", name))


@pytest.mark.parametrize("name", registry.names("lengths"))
def test_lengths(name):
    testing.check_lengths(registry.get("lengths", name))


@pytest.mark.parametrize("verifier", registry.names("verifier"))
@pytest.mark.parametrize("lengths", ["1", "5", "adaptive"])
@pytest.mark.parametrize("drafter", sorted(MADE))
def test_all_combinations_write_plain_greedy(drafter, lengths, verifier):
    target, made = testing.tiny_model(), MADE[drafter][0]()
    rule = registry.get("verifier", verifier)()
    if made.branches and rule.chains_only:
        with pytest.raises(InvalidArgument, match=r"takes chains only, \w+Drafter drafts trees"):
            Decoder(target, made, verifier=rule)
        return
    decoder = Decoder(target, made, verifier=rule, lengths=make_lengths(lengths))
    prompt = list(b"the cat and the dog and the cat")
    wanted = Decoder(target).generate(prompt, max_new_tokens=48, repetition_penalty=1.1)
    got = decoder.generate(prompt, max_new_tokens=48, repetition_penalty=1.1)
    assert got.tokens == wanted.tokens
    assert got.stats.exact


@pytest.mark.parametrize("verifier", sorted(set(registry.names("verifier")) - {"coupled"}))
@pytest.mark.parametrize("drafter", sorted(set(MADE) - {"none", "bandit"}))  # it goes by time
def test_rejection_repeats_with_its_seed(drafter, verifier):
    target, rule = testing.tiny_model(), registry.get("verifier", verifier)()
    if MADE[drafter][0]().branches and rule.chains_only:
        return
    request = {"max_new_tokens": 40, "temperature": 0.9, "ignore_eos": True}
    texts = [
        Decoder(target, MADE[drafter][0](), verifier=rule).generate([5, 6, 7], seed=seed, **request)
        for seed in (1, 1, 2)
    ]
    assert texts[0].tokens == texts[1].tokens != texts[2].tokens


STEPS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 6)), min_size=1, max_size=8)


@pytest.mark.parametrize(
    "family", ["llama", "gpt_neox", "gpt2", "mistral", "gemma2", "gemma3", "gpt_oss"]
)
def test_logits_after_any_rounds_are_those_of_a_fresh_forward(family, pair):
    model = pair(family)[0]

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def run(steps):
        testing.check_cache(model, steps, tolerance=1e-4 if family != "gpt_oss" else 2e-4)

    run()


# --- the suite itself: what breaks a rule is seen ----------------------------------------------


class Broken(NoDrafter):
    """Answers with what it is told to."""

    def __init__(self, answer):
        self._answer = answer

    def propose(self, context, budget, drawing):
        return self._answer(context, budget)


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (lambda c, b: TokenTree.chain(c.tokens[-1] + 1), "node 0"),
        (lambda c, b: TokenTree.chain(c.tokens[-1], [1] * (b.depth + 1)), "the budget has"),
        (
            lambda c, b: TokenTree(torch.tensor([c.tokens[-1], 1, 2]), torch.tensor([-1, 2, 0])),
            "a node before i",
        ),
        (
            lambda c, b: TokenTree(torch.tensor([c.tokens[-1], 1]).int(), torch.tensor([-1, 0])),
            "int64",
        ),
        (lambda c, b: TokenTree.chain(c.tokens[-1], [1], draw="iid"), "needs log_q"),
        (
            lambda c, b: TokenTree(
                torch.tensor([c.tokens[-1], 1, 2]), torch.tensor([-1, 0, 0]), is_chain=True
            ),
            "is_chain",
        ),
        (lambda c, b: c.extend([1]) or TokenTree.chain(c.tokens[-1]), "must not change"),
    ],
)
def test_a_broken_drafter_is_seen(answer, rule):
    with pytest.raises(testing.ContractBroken, match=rule):
        testing.check_drafter(lambda: Broken(answer))


def test_a_broken_length_controller_is_seen():
    class Deep(LengthController):
        def next(self, context):
            return Budget(5, 64)

    with pytest.raises(testing.ContractBroken, match="depth <= nodes"):
        testing.check_lengths(Deep)


def test_a_broken_cache_is_seen(monkeypatch):
    from outpace.cache import Session

    def forgetful(self, tree, path):
        # the mistake: a path is kept as if it were the first nodes of the tree
        original(self, tree, list(range(1, len(path) + 1)))

    original = Session.commit
    monkeypatch.setattr(Session, "commit", forgetful)
    with pytest.raises(testing.ContractBroken, match="logits off by"):
        testing.check_cache(testing.tiny_model(), [(seed, 0) for seed in range(12)])


def test_a_drafter_that_changes_the_text_is_seen(monkeypatch):
    from outpace.verifiers.coupled import CoupledVerifier

    def gullible(self, tree, logits, sampler):
        # the mistake: the first draft token is taken unseen
        verdict = honest(self, tree, logits, sampler)
        if len(tree) > 1 and not verdict.path:
            tokens, _ = tree.lists()
            return type(verdict)([1], [tokens[1], verdict.tokens[0]], verdict.choices)
        return verdict

    honest = CoupledVerifier.verify
    monkeypatch.setattr(CoupledVerifier, "verify", gullible)
    with pytest.raises(testing.ContractBroken, match="plain decoding"):
        testing.check_drafter(lambda: MADE["prompt-lookup"][0]())


def test_the_suite_is_public():
    assert set(testing.__all__) <= set(dir(testing))
    assert issubclass(Drafter, object)
