"""Goals and limits of memory: bytes are counted from storages, times are made up."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from outpace.bench import BenchPrompt, Models, Writing
from outpace.bench.advice import advised, keeps_up, measured_table, recipe_of, sentence, warnings
from outpace.bench.candidates import Source
from outpace.bench.metrics import Interval
from outpace.bench.tuning import Tuning
from outpace.bench.weighing import (
    Aim,
    aim_for,
    longest_prompt,
    usual_policies,
    weight_bytes,
)
from outpace.cache.policies import make_policy
from outpace.drafters.compressed_self import CompressedSelfDrafter
from outpace.drafters.early_exit import EarlyExitDrafter
from outpace.drafters.model import ModelDrafter
from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.errors import InvalidArgument, UnknownName
from outpace.memory import drafter_slots, target_slots
from outpace.models.tiny import tiny_model
from outpace.recipe import Recipe

SMALL = "streaming(sinks=4, recent=40)"
SLOT = 2 * 2 * 2 * 8 * 4
"""Bytes of a token: keys and values of two layers, two heads, eight numbers of float32."""
TOKENS, NEW = 20, 60
STORE = 50_000
"""More than a lookup remembers of so short a text."""
WIDTHS = (1, 2, 4, 8, 16, 32, 64)


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(tiny_model(), tiny_model(seed=1, layers=1))


Made = Callable[..., Tuning]


@pytest.fixture(scope="module")
def tuning(models: Models) -> Made:
    """Make a finished tuning, of a draft model and a lookup; the same limit is tuned once."""
    assert models.drafter is not None
    draft = models.drafter
    texts = [BenchPrompt("own", str(n), "abcdefghij" * n) for n in (1, 2)]
    known: dict[tuple[object, ...], Tuning] = {}

    def made(aim: Aim, *sources: Source) -> Tuning:
        key = aim.limit, tuple(aim.policies)
        if key in known and not sources:  # the goal decides on the advice alone
            return replace(known[key], aim=aim)
        given = sources or (
            Source("draft", ModelDrafter(draft)),
            Source("prompt-lookup", PromptLookupDrafter()),
        )
        new = Tuning(models.target, given, texts, Writing(NEW), [2], aim)
        new.chosen_threads = torch.get_num_threads()
        new.verifying = dict.fromkeys(WIDTHS, 1e-3)
        new.drafting = {"draft": dict.fromkeys(WIDTHS, 1e-4)}
        for source in given:
            source.drafter.attach(models.target)
        new.trace()
        new.measure()
        if not sources:
            known[key] = new
        return new

    return made


def aim(goal: str, limit: int | None = None, *policies: str, asked: bool = True) -> Aim:
    given = tuple(made for one in policies if (made := make_policy(one)) is not None)
    return Aim(goal, limit, given, asked and bool(given))


def test_bytes_are_those_of_the_storages(tuning: Made, models: Models) -> None:
    assert models.drafter is not None
    done = tuning(aim("memory", None, SMALL))
    policy = make_policy(SMALL)
    whole, small = (target_slots(TOKENS, NEW, one) for one in (None, policy))
    own, own_small = (drafter_slots(TOKENS, NEW, one) for one in (None, policy))
    assert small < whole
    target, draft = models.target.weight_bytes, models.drafter.weight_bytes
    assert done.nbytes["plain"] == target + whole * SLOT
    assert done.nbytes[f"plain with {SMALL}"] == target + small * SLOT
    assert done.nbytes["draft@2"] == target + draft + whole * SLOT + own * SLOT // 2
    assert (
        done.nbytes[f"draft@2 with {SMALL}"]
        == target + draft + small * SLOT + own_small * SLOT // 2
    )
    # what a lookup remembers of the text is in it
    store = done.samples["prompt-lookup@2"][1].store_bytes
    assert done.nbytes["prompt-lookup@2"] == target + whole * SLOT + store
    names = [one.name for one in done.candidates]
    assert f"draft gate with {SMALL}" in names
    assert f"prompt-lookup gate with {SMALL}" in names
    assert [one.exact for one in done.candidates] == [SMALL not in name for name in names]
    table = measured_table(done)
    assert table["approximate"] == [name for name in names if SMALL in name]
    assert table["bytes"] == done.nbytes
    assert table["goal"] == "memory"


def test_what_models_share_counts_once(models: Models) -> None:
    drafter = EarlyExitDrafter(layers=1)
    drafter.attach(models.target)
    assert weight_bytes([models.target, *drafter.models]) == models.target.weight_bytes
    assert models.drafter is not None
    both = models.target.weight_bytes + models.drafter.weight_bytes
    assert weight_bytes([models.target, models.drafter]) == both


@pytest.fixture
def chosen(tuning: Made, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return what is advised where speeds are as said, by the beginning of a name."""

    def ask(done: Tuning, speeds: dict[str, float]) -> str:
        def speed(_: Tuning, name: str) -> float:
            fitting = [one for one in speeds if name.startswith(one)]
            return speeds[max(fitting, key=len)] if fitting else 0.5

        def gain(self: Tuning, name: str) -> Interval:
            value = speed(self, name)
            return Interval(value, value - 0.05, value + 0.05)

        monkeypatch.setattr(Tuning, "measured", speed)
        monkeypatch.setattr(Tuning, "gain", gain)
        return advised(done).name

    return ask


def test_least_memory_that_keeps_up(tuning: Made, chosen: Callable[..., str]) -> None:
    done = tuning(aim("memory", None, SMALL))
    assert chosen(done, {"plain": 1.0, "draft@2": 3.0}) == f"plain with {SMALL}"
    # what is slower than plain decoding is none
    assert chosen(done, {"plain": 1.0, f"plain with {SMALL}": 0.8}) == "plain"
    assert recipe_of(done, Recipe("a", device="cpu")).cache_policy is None
    chosen(done, {"plain": 1.0, f"plain with {SMALL}": 1.0})
    recipe = recipe_of(done, Recipe("a", device="cpu"))
    assert (recipe.cache_policy, recipe.drafter_cache_policy) == (SMALL, None)
    assert "its text is approximate" in sentence(done)
    assert "goal memory" in sentence(done)


def test_the_policies_of_a_draft_model_are_in_the_recipe(
    tuning: Made, chosen: Callable[..., str]
) -> None:
    done = tuning(aim("balanced", None, SMALL))
    assert chosen(done, {"plain": 1.0, f"draft@2 with {SMALL}": 9.0}).startswith("draft@2 with")
    recipe = recipe_of(done, Recipe("a", device="cpu"))
    assert (recipe.cache_policy, recipe.drafter_cache_policy) == (SMALL, SMALL)
    # plain decoding without a drafter can forget too
    chosen(done, {"plain": 1.0, f"plain with {SMALL}": 1.0})
    recipe = recipe_of(done, Recipe("a", device="cpu"))
    assert (recipe.drafter, recipe.cache_policy) == ("none", SMALL)


def test_balanced_is_speed_per_byte(tuning: Made, chosen: Callable[..., str]) -> None:
    done = tuning(aim("balanced", None, SMALL))
    ratio = done.nbytes["draft@2"] / done.nbytes["plain"]
    assert ratio > 1.3
    slow = {f"{one} with": 0.1 for one in ("plain", "draft@2", "prompt-lookup@2")}
    slow["plain"] = 1.0
    assert chosen(done, {**slow, "draft@2": 1.02 * ratio}) == "draft@2"
    assert chosen(done, {**slow, "draft@2": 0.98 * ratio}) == "plain"
    assert chosen(done, {**slow, "prompt-lookup@2": 1.9}) == "prompt-lookup@2"


def test_speed_stays_exact_unless_asked(tuning: Made, chosen: Callable[..., str]) -> None:
    speeds = {"plain": 1.0, f"draft@2 with {SMALL}": 3.0, "draft@2": 2.0}
    assert chosen(tuning(aim("speed", None, SMALL, asked=False)), speeds) == "draft@2"
    assert chosen(tuning(aim("speed", None, SMALL)), speeds) == f"draft@2 with {SMALL}"


def test_a_limit_excludes(tuning: Made, chosen: Callable[..., str], models: Models) -> None:
    room = models.target.weight_bytes + target_slots(TOKENS, NEW) * SLOT + STORE
    done = tuning(aim("speed", room))
    assert set(done.excluded) == {"draft@2", "draft gate"}
    assert all(name.partition("@")[0].split()[0] != "draft" for name in done.samples)
    assert chosen(done, {"plain": 1.0, "draft@2": 9.0, "prompt-lookup@2": 1.5}) == "prompt-lookup@2"
    assert not any("left out" in line for line in warnings(done))


def test_a_limit_that_only_forgetting_keeps(
    tuning: Made, chosen: Callable[..., str], models: Models
) -> None:
    room = models.target.weight_bytes + target_slots(TOKENS, NEW) * SLOT - 1
    done = tuning(aim("speed", room, SMALL, asked=False))
    # plain decoding is measured all the same, as the yardstick, and not advised
    assert done.candidates[0].name == "plain"
    assert not done.aim.allows(done.nbytes["plain"])
    assert chosen(done, {"plain": 1.0, f"plain with {SMALL}": 0.7}) == f"plain with {SMALL}"
    assert not keeps_up(done, advised(done))
    assert any("all that is within the limit is slower" in line for line in warnings(done))


def test_nothing_is_left(tuning: Made) -> None:
    with pytest.raises(InvalidArgument, match="the least is plain, "):
        tuning(aim("speed", 1000))


def test_steps_that_are_announced(tuning: Made, models: Models) -> None:
    room = models.target.weight_bytes + target_slots(TOKENS, NEW) * SLOT + STORE
    new = tuning(aim("balanced", None, SMALL))
    before = list(new.candidates)
    new = replace(new, aim=aim("speed", room))
    new.samples = {one.name: {} for one in before}
    new.candidates, new.excluded, new.nbytes = before, {}, {}
    total, told = new.measure_steps, 0

    def notify(what: str, *, more: int = 0) -> None:
        nonlocal total, told
        total, told = total + more, told + 1

    new.measure(notify)
    assert told == total


def test_a_drafter_that_goes_with_no_policy(tuning: Made) -> None:
    source = Source("compressed-self", CompressedSelfDrafter())
    done = tuning(aim("memory", None, SMALL), source)
    assert set(done.excluded) == {
        f"compressed-self@2 with {SMALL}",
        f"compressed-self gate with {SMALL}",
    }
    assert any("is left out: compressed-self for a target" in line for line in warnings(done))


def test_which_policies_are_looked_into(models: Models) -> None:
    target = models.target
    assert not aim_for("speed", None, [], target, 20, 20).weighs
    assert not aim_for("memory", None, [], target, 20, 20).policies  # would save nothing
    long = aim_for("memory", None, [], target, 300, 180)
    assert [str(one) for one in long.policies] == [
        "streaming(sinks=4, recent=395)",  # that of 1020, as it fits 512 positions
        "streaming(sinks=4, recent=252)",
    ]
    assert not long.asked
    # for speed only where the limit asks for it
    whole = target.weight_bytes + target_slots(300, 180) * SLOT
    assert not aim_for("speed", whole, [], target, 300, 180).policies
    assert aim_for("speed", whole - 1, [], target, 300, 180).policies == long.policies
    own = make_policy(SMALL)
    assert own is not None
    assert aim_for("speed", None, [own], target, 20, 20) == Aim("speed", None, (own,), True)
    least = target.weight_bytes + target_slots(300, 180, long.policies[1]) * SLOT
    assert aim_for("speed", least, [], target, 300, 180).limit == least
    with pytest.raises(InvalidArgument, match=f"{least:,} bytes: give --memory-limit 1MB or more"):
        aim_for("speed", least - 1, [], target, 300, 180)


def test_usual_policies() -> None:
    found = [str(one) for one in usual_policies(None, 4000, 4000)]
    assert found == [f"streaming(sinks=4, recent={n})" for n in (1020, 508, 252)]
    assert usual_policies(64, 4000, 4000) == []
    assert len(usual_policies(300, 4000, 4000)) == 1  # all the same, made to fit


def test_goals() -> None:
    with pytest.raises(UnknownName, match=r"'memry' \(did you mean 'memory'\?\): choose one of"):
        Aim("memry")


def test_the_longest_prompt(models: Models) -> None:
    texts = [BenchPrompt("own", "a", "abc"), BenchPrompt("own", "b", "ab", turns=("abcdef",))]
    assert longest_prompt(models.target.tokenizer, texts) == (1, 2)
