"""The target drafts for itself with few keys and values: the same text, fewer bytes."""

import pytest
import torch

from outpace import Decoder
from outpace.cache import Session
from outpace.cache.policies import parse_policy
from outpace.drafters.compressed_self import CompressedSelfDrafter
from outpace.drafters.hierarchical import HierarchicalDrafter
from outpace.errors import InvalidArgument
from outpace.lengths.fixed import FixedLength
from outpace.models import LanguageModel
from outpace.models.tiny import tiny_model

PROMPT = [1, 2, 3, 4, 5, 6, 7, 8] * 6
POLICIES = ("streaming(2, 14, every=4)", "recent(16, every=4)", "key_norm(0.5, 0, 24, 8)",
            "fixed_key_norm(16, every=4)")  # fmt: skip


class Counted:
    """Counts the tokens a model computes."""

    def __init__(self, model: LanguageModel) -> None:
        self.tokens = 0
        run = model.forward

        def forward(tokens: torch.Tensor, *rest: object, **options: object) -> torch.Tensor:
            self.tokens += len(tokens)
            return run(tokens, *rest, **options)  # type: ignore[arg-type]

        model.forward = forward  # type: ignore[method-assign]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.9, "seed": 3, "top_k": 40}])
def test_the_text_is_plain(policy: str, settings: dict[str, float]) -> None:
    target = tiny_model()
    request = {"max_new_tokens": 60, "ignore_eos": True, **settings}
    plain = Decoder(target).generate(PROMPT, **request)
    decoder = Decoder(target, CompressedSelfDrafter(policy), lengths=FixedLength(3))
    drafted = decoder.generate(PROMPT, **request)
    assert decoder.exact
    assert drafted.tokens == plain.tokens
    assert 0 < drafted.stats.accepted <= drafted.stats.drafted
    assert decoder.drafter.kv_bytes < plain.stats.kv_bytes
    # two levels write the same
    small = HierarchicalDrafter(tiny_model(seed=0), policy, "recent(8, every=2)", ahead=2)
    both = Decoder(target, small, lengths=FixedLength(3)).generate(PROMPT, **request)
    assert both.tokens == plain.tokens
    if not parse_policy(policy).uniform:  # equal norms fall either way
        return
    # and draft what the middle level drafts alone
    assert (both.stats.drafted, both.stats.accepted) == (
        drafted.stats.drafted,
        drafted.stats.accepted,
    )


def test_all_that_is_kept_is_all_that_is_accepted() -> None:
    target = tiny_model()
    drafter = CompressedSelfDrafter("streaming(2, 300, every=4)")  # forgets nothing here
    output = Decoder(target, drafter, lengths=FixedLength(3)).generate(
        PROMPT, max_new_tokens=41, ignore_eos=True
    )
    assert output.stats.acceptance_rate == 1.0
    forgets = CompressedSelfDrafter("recent(1, every=1)")  # the negative control
    less = Decoder(target, forgets, lengths=FixedLength(3)).generate(
        PROMPT, max_new_tokens=41, ignore_eos=True
    )
    assert less.stats.acceptance_rate < 1.0
    assert less.tokens == output.tokens


def test_no_token_of_the_text_is_computed_again() -> None:
    target = tiny_model()
    plain = tiny_model()
    counted, alone = Counted(target), Counted(plain)
    Decoder(plain).generate(PROMPT, max_new_tokens=40, ignore_eos=True)
    decoder = Decoder(
        target, CompressedSelfDrafter("streaming(2, 14, every=4)"), lengths=FixedLength(3)
    )
    stats = decoder.generate(PROMPT, max_new_tokens=40, ignore_eos=True).stats
    # prompt once, each round its root and draft tokens; to draft, one token for each draft token
    assert alone.tokens == len(PROMPT) + 39
    assert counted.tokens == len(PROMPT) + stats.rounds + 2 * stats.drafted


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_copied_is_what_would_be_held(policy: str) -> None:
    target = tiny_model()
    whole, few = Session(target), Session(target, parse_policy(policy))
    text = [(7 * number) % 250 for number in range(70)]
    whole.extend(text)
    few.follow(whole, 70)
    assert few.tokens == text
    assert len(few.indices) <= 40
    few.rollback(few._forgetting.floor)  # type: ignore[union-attr]
    few.follow(whole, 70)
    step = Session(target, parse_policy(policy))
    for length in range(1, 71):
        step.follow(whole, length)
    assert step.indices[-4:] == few.indices[-4:]
    one = torch.tensor([3])
    for session in (few, step):
        assert torch.isfinite(session.append([int(one)])).all()


def test_what_it_cannot_be() -> None:
    for policy, why in (
        ("full", "keeps everything"),
        ("h2o(16)", "goes by attention"),
        ("snapkv(2, 16)", "goes by attention"),
    ):
        with pytest.raises(InvalidArgument, match=why):
            CompressedSelfDrafter(policy)
    with pytest.raises(InvalidArgument, match="needs a model"):
        HierarchicalDrafter()
    with pytest.raises(InvalidArgument, match="ahead 0"):
        HierarchicalDrafter(tiny_model(), ahead=0)
    target = tiny_model()
    streaming = parse_policy("streaming(2, 30, every=4)")
    decoder = Decoder(target, CompressedSelfDrafter(POLICIES[0]), cache_policy=streaming)
    with pytest.raises(InvalidArgument, match="what it forgets the drafter cannot copy"):
        decoder.generate(PROMPT, max_new_tokens=4)
