"""A text read while tokens are forgotten, against the stock model told what each token may see."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import architectures
from outpace.bench import evicting
from outpace.bench.evicting import WINDOWS, Stretch, check_policy, evicted_laws, read
from outpace.bench.perplexity import perplexity
from outpace.bench.quality import laws
from outpace.errors import InvalidArgument, UnknownName
from outpace.models import LanguageModel, wrap
from outpace.models.tiny import byte_tokenizer, tiny_model

TEXT = "the cat and the dog sat by the sea, and the cat said: naïve dogs do not read. " * 2
IDS = list(byte_tokenizer()(TEXT)["input_ids"])
SINKS, RECENT, EVERY = 2, 6, 4
STREAMING = f"streaming(sinks={SINKS}, recent={RECENT}, every={EVERY})"
OBSERVING = ["snapkv(window=4, size=12)", "h2o(size=12)"]
FORGETTING = [STREAMING, "recent(size=8)", "fixed_key_norm(size=12, keep=random)", *OBSERVING]


def of(model: LanguageModel, policy: str, ids: list[int] = IDS) -> Tensor:
    return torch.cat([law for _, law, _ in evicted_laws(model, policy, ids)])


def seen_by(count: int, sinks: int = SINKS) -> list[list[int]]:
    """The tokens each token may see, worked out by hand from what the policy promises."""
    held: list[int] = []
    found = []
    for place in range(count):
        held.append(place)
        found.append(list(held))
        length = place + 1
        first = SINKS + RECENT + EVERY
        if length >= first and (length - first) % EVERY == 0:
            held = [*held[:sinks], *held[-(SINKS + RECENT - sinks) :]]
    return found


@torch.no_grad()
def masked(seen: list[list[int]]) -> Tensor:
    """The laws of one forward of the stock model in which each token sees these and no others."""
    model: Any = tiny_model().model
    model.set_attn_implementation("eager")
    mask = torch.full((1, 1, len(seen), len(seen)), -math.inf)
    for row, places in enumerate(seen):
        mask[0, 0, row, places] = 0.0
    logits = model(input_ids=torch.tensor([IDS[: len(seen)]]), attention_mask=mask).logits[0]
    return torch.log_softmax(logits.float(), dim=-1)


def apart(one: Tensor, other: Tensor) -> float:
    return float((one.exp() - other.exp()).abs().max())


def test_each_token_is_foretold_from_what_is_held_then() -> None:
    found, seen = of(tiny_model(), STREAMING), seen_by(len(IDS))
    assert apart(found, masked(seen)) < 1e-5
    held = torch.cat([held for _, _, held in evicted_laws(tiny_model(), STREAMING, IDS)])
    assert held.tolist() == [len(places) for places in seen]


def test_a_forgotten_token_left_in_sight_would_show() -> None:
    found = of(tiny_model(), STREAMING)
    dense = [list(range(place + 1)) for place in range(len(IDS))]
    assert apart(found, masked(dense)) > 1e-2
    assert apart(found, masked(seen_by(len(IDS), sinks=1))) > 1e-2
    one_more = seen_by(len(IDS))
    one_more[-1] = sorted({*one_more[-1], SINKS})  # forgotten at the first boundary
    assert apart(found[-1], masked(one_more)[-1]) > 1e-4


@pytest.mark.parametrize("policy", FORGETTING)
def test_what_comes_before_the_first_boundary_is_as_in_a_dense_cache(policy: str) -> None:
    model = tiny_model()
    dense, found = of(model, "full"), of(model, policy)
    assert apart(dense[:9], found[:9]) < 1e-5
    assert apart(dense[20:], found[20:]) > 1e-2


@pytest.mark.parametrize(
    "policy",
    [
        "key_norm(start_after=10000)",
        "fixed_key_norm(size=300)",
        "streaming(sinks=4, recent=300)",
        "h2o(size=300)",
        "snapkv(window=4, size=300)",
    ],
)
def test_what_keeps_everything_equals_a_dense_cache(policy: str) -> None:
    model = tiny_model()
    dense, own = read(model, "full", IDS), read(model, policy, IDS)
    observing = policy.startswith(("h2o", "snapkv"))  # another kernel, which shows its weights
    if observing:
        assert own[0].nats == pytest.approx(dense[0].nats, rel=1e-6)
        own[0].nats = dense[0].nats
    assert own == dense


@pytest.mark.parametrize("context", [512, 64])
def test_dense_is_the_stock_model_past_its_window_too(context: int) -> None:
    model = tiny_model(context_length=context)
    stock = torch.cat([law for _, law in laws(model, IDS)])
    assert apart(of(model, "full"), stock) < 1e-5


def test_where_a_forward_ends_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = of(tiny_model(), STREAMING)
    monkeypatch.setattr(evicting, "CHUNK", 3)
    assert apart(of(tiny_model(), STREAMING), before) < 1e-5


def test_counts() -> None:
    model, first, stretch = tiny_model(), 21, 50
    found = read(model, STREAMING, IDS, first=first, stretch=stretch)
    count = len(IDS) - 1
    assert [one.end for one in found] == [50, 100, 150, count]
    assert [one.tokens for one in found] == [30, 50, 50, count - 150]
    seen = [len(places) for places in seen_by(count)]
    law = of(model, STREAMING)
    for begin, one in zip((20, 50, 100, 150), found, strict=True):
        places = range(begin, one.end)
        assert one.before == sum(place + 1 for place in places)
        assert one.held == sum(seen[place] for place in places)
        nats = [-float(law[place, IDS[place + 1]]) for place in places]
        assert one.nats == pytest.approx(sum(nats), rel=1e-6)
        assert one.right == sum(int(law[place].argmax()) == IDS[place + 1] for place in places)
    (whole,) = read(model, STREAMING, IDS, first=first)
    assert whole.tokens == sum(one.tokens for one in found)
    assert whole.nats == pytest.approx(sum(one.nats for one in found))


def test_windows_are_those_of_ppl() -> None:
    model = tiny_model(context_length=64)
    (found,) = read(model, WINDOWS, IDS)
    score = perplexity(model, [TEXT], window=64, stride=32)
    assert (found.tokens, found.nats) == (score.tokens, pytest.approx(score.nats, rel=1e-6))
    assert found.held < found.before


def test_past_the_window_streaming_goes_on() -> None:
    model = tiny_model(context_length=128)
    (found,) = read(model, STREAMING, IDS * 3)
    assert found.tokens == 3 * len(IDS) - 1
    assert math.isfinite(found.nats)


def test_positions_that_do_not_exist_are_refused() -> None:
    model = wrap(architectures.build("gpt2"), name="gpt2")
    limit = model.context_length
    assert limit is not None
    with pytest.raises(InvalidArgument, match=f"has positions for {limit}: give shorter texts"):
        read(model, "full", [3] * (limit + 2))


def test_policies_are_checked() -> None:
    check_policy("windows")
    check_policy("full")
    with pytest.raises(UnknownName):
        check_policy("stream")
    with pytest.raises(InvalidArgument, match="recent 0"):
        check_policy("streaming(recent=0)")


def test_a_stretch_holds_sums() -> None:
    assert Stretch(5) == Stretch(5, 0, 0.0, 0, 0.0, 0)
