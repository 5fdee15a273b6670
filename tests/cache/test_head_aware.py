"""Budgets of single heads, and caches in few bits."""

import json
from pathlib import Path

import pytest
import torch

from outpace import Decoder
from outpace.cache import Session
from outpace.cache.budgets import HeadBudget, HeadBudgets
from outpace.cache.policies import make_policy, parse_policy
from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.errors import InvalidArgument
from outpace.lengths.fixed import FixedLength
from outpace.models.tiny import tiny_model

TEXT = [(11 * number) % 250 for number in range(200)]


@pytest.fixture
def budgets(tmp_path: Path) -> Path:
    layers = (
        (HeadBudget(0.5, "window", 8), HeadBudget(0.7, "sink+window", 24)),
        (HeadBudget(1.0, "full", None), HeadBudget(0.5, "window", 8)),
    )
    file = tmp_path / "heads.json"
    file.write_text(json.dumps(HeadBudgets("tiny", 4, layers).record()))
    return file


def test_each_head_keeps_its_budget(budgets: Path) -> None:
    target = tiny_model()
    policy = parse_policy(f"head_aware({budgets}, every=10)")
    assert parse_policy(str(policy)) == policy
    assert policy.size is None
    session = Session(target, policy)
    session.extend(TEXT)
    groups = session._forgetting._places._groups  # type: ignore[union-attr]
    counts = {(one.layer, one.heads): len(one.indices) for one in groups}
    assert counts == {(0, (0,)): 8, (0, (1,)): 28, (1, (0,)): 200, (1, (1,)): 8}
    sinks = next(one for one in groups if (one.layer, one.heads) == (0, (1,)))
    assert sinks.indices[:, 0].tolist() == [*range(4), *range(176, 200)]
    whole = Session(target)
    whole.extend(TEXT)
    assert session.nbytes < whole.nbytes
    shares = parse_policy(f"head_aware({budgets}, total=40, every=10)")
    assert shares.size == 40
    session = Session(target, shares)
    session.extend(TEXT)
    groups = session._forgetting._places._groups  # type: ignore[union-attr]
    assert sorted(len(one.indices) for one in groups) == [20, 20, 28, 40]


def test_drafts_change_nothing(budgets: Path) -> None:
    target = tiny_model()
    for text in (f"head_aware({budgets}, every=10)", "quantized(int4, recent=16, every=4)",
                 "streaming(2, 30, every=4) + quantized(int8, recent=8)"):  # fmt: skip
        policy = make_policy(text)
        request = {"max_new_tokens": 60, "ignore_eos": True}
        plain = Decoder(target, cache_policy=policy).generate(TEXT[:40] * 2, **request)
        decoder = Decoder(
            target, PromptLookupDrafter(), lengths=FixedLength(4), cache_policy=policy
        )
        drafted = decoder.generate(TEXT[:40] * 2, **request)
        assert drafted.tokens == plain.tokens
        assert not decoder.exact


def test_a_file_of_another_model_is_refused(budgets: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="the file has 2 layers of 2 key heads"):
        Session(tiny_model(layers=3), parse_policy(f"head_aware({budgets})"))
    with pytest.raises(InvalidArgument, match="no such file"):
        parse_policy(f"head_aware({tmp_path / 'none.json'})")
    with pytest.raises(InvalidArgument, match="head_aware needs budgets"):
        parse_policy("head_aware")


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_packed_cache_is_smaller_and_near(kind: str) -> None:
    target = tiny_model()
    whole = Session(target)
    packed = Session(target, parse_policy(f"quantized({kind}, recent=16, every=8)"))
    expected, got = whole.extend(TEXT), packed.extend(TEXT)
    assert packed.indices == list(range(200))
    assert packed.nbytes < 0.8 * whole.nbytes
    apart = float((got - expected).norm() / expected.norm())
    assert 0 < apart < (0.05 if kind == "int8" else 0.6)
    # what lies in the window can be taken back, and comes out as if it had never been there
    packed.extend([1, 2, 3])
    packed.rollback(200)
    fresh = Session(target, parse_policy(f"quantized({kind}, recent=16, every=8)"))
    fresh.extend(TEXT)
    assert torch.allclose(packed.append([9]), fresh.append([9]), atol=1e-5)


def test_nothing_packed_is_the_whole_cache() -> None:
    target = tiny_model()
    whole = Session(target)
    packed = Session(target, parse_policy("quantized(int4, recent=500)"))
    assert torch.equal(whole.extend(TEXT), packed.extend(TEXT))


def test_what_is_packed_is_packed_for_all_heads() -> None:
    with pytest.raises(InvalidArgument, match="for all heads alike"):
        parse_policy("key_norm(0.5) + quantized(int8)")
    with pytest.raises(InvalidArgument, match="int2"):
        parse_policy("quantized(int2)")
