"""A tuning from its first step to its recipe, on a clock that charges forwards by width."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from outpace.bench import BenchPrompt, Models, Writing
from outpace.bench.advice import advised, miss, recipe_of, sentence, warnings
from outpace.bench.candidates import Source
from outpace.bench.metrics import Interval
from outpace.bench.tuning import Tuning
from outpace.drafters.model import ModelDrafter
from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.drafters.suffix import SuffixDrafter
from outpace.drafters.tree import TreeDrafter
from outpace.models import LanguageModel
from outpace.models.runtime import width_for
from outpace.recipe import Recipe

VERIFYING = {1: 8e-3, 2: 8.2e-3, 4: 8.5e-3, 8: 9e-3, 16: 16e-3, 32: 24e-3, 64: 40e-3}
READING = 1e-5
"""Seconds of a look at the clock, so that there is something besides forwards."""


pytestmark = pytest.mark.usefixtures("threads")


@pytest.fixture
def drafting() -> dict[int, float]:
    """What forwards of the draft model take; tests change it."""
    return {width: seconds / 8 for width, seconds in VERIFYING.items()}


@pytest.fixture
def clock(models: Models, drafting: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by what each forward is said to take, and by nothing else."""
    now = [0.0]
    forward = LanguageModel.forward

    def charged(model: LanguageModel, tokens: torch.Tensor, *args: Any, **settings: Any) -> Any:
        table = drafting if model is models.drafter else VERIFYING
        now[0] += table[min(64, width_for(len(tokens)))]
        return forward(model, tokens, *args, **settings)

    def read() -> float:
        now[0] += READING
        return now[0]

    monkeypatch.setattr(LanguageModel, "forward", charged)
    monkeypatch.setattr("time.perf_counter", read)


Made = Callable[..., Tuning]


@pytest.fixture
def tuning(models: Models, prompts: list[BenchPrompt]) -> Made:
    assert models.drafter is not None
    draft = models.drafter

    def made(*sources: Source, tokens: int = 32) -> Tuning:
        given = sources or (
            Source("draft", ModelDrafter(draft)),
            Source("draft", TreeDrafter(draft, "fixed(depth=2)"), "fixed(depth=2)"),
            Source("prompt-lookup", PromptLookupDrafter()),
            Source("suffix", SuffixDrafter()),
        )
        return Tuning(models.target, given, prompts[:2], Writing(tokens), [1, 3, 6])

    return made


def run(tuning: Tuning) -> Tuning:
    tuning.price()
    tuning.trace()
    tuning.measure()
    return tuning


@pytest.mark.usefixtures("clock")
def test_predicted_is_measured(tuning: Made) -> None:
    done = run(tuning())
    names = [one.name for one in done.candidates]
    assert names[:5] == ["plain", "draft@1", "draft@3", "draft@6", "draft gate"]
    assert names[5:7] == ["draft tree:fixed(depth=2)", "draft tree:fixed(depth=2) gate"]
    assert names[7].startswith("prompt-lookup@")
    assert names[8:] == ["prompt-lookup gate", "suffix", "suffix gate"]
    assert done.verifying[8] == pytest.approx(9e-3, rel=0.01)
    for one in done.candidates:
        # the gate learns within a text of 32 tokens
        assert abs(miss(done, one)) < (0.25 if one.length == "gate" else 0.04), one.name
    best = advised(done)
    assert best.source is not None
    assert sentence(done).startswith(f"Use {best.name}: ")
    assert any("too few" in line for line in warnings(done))
    recipe = recipe_of(done, Recipe("a-target", device="cpu"))
    assert (recipe.target, recipe.drafter) == ("a-target", best.source.name)
    assert recipe.costs is not None
    assert recipe.costs.verifying[8] == pytest.approx(9e-3, rel=0.01)
    assert recipe.threads == done.chosen_threads
    assert recipe.measured["measured_tokens_per_second"].keys() == set(names)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("shape", ["fixed(depth=2)", "sequoia"])
def test_the_steps_that_are_announced_are_taken(tuning: Made, models: Models, shape: str) -> None:
    assert models.drafter is not None
    source = Source("draft", TreeDrafter(models.drafter, shape), shape)
    new, told = tuning(source, tokens=8), list[str]()

    def notify(what: str, *, more: int = 0) -> None:
        told.append(what)

    for step in ("price", "trace", "measure"):
        expected = getattr(new, f"{step}_steps")
        told.clear()
        getattr(new, step)(notify)
        assert len(told) == expected, step


@pytest.mark.usefixtures("clock")
def test_a_slow_drafter_does_not_pay(
    tuning: Made, models: Models, drafting: dict[int, float]
) -> None:
    assert models.drafter is not None
    drafting.update(VERIFYING)
    done = run(tuning(Source("draft", ModelDrafter(models.drafter)), tokens=24))
    assert advised(done).name == "plain"
    assert sentence(done).startswith("Speculation does not pay here for sure")
    assert any("a forward of draft takes 1.00 of one of the target" in w for w in warnings(done))
    recipe = recipe_of(done, Recipe())
    assert (recipe.drafter, recipe.costs) == ("none", None)


@pytest.mark.usefixtures("clock")
def test_a_prediction_from_wrong_costs_is_told(tuning: Made) -> None:
    """The negative control: costs that are not those of the machine."""
    new = tuning(tokens=24)
    new.price()
    new.verifying = dict.fromkeys(VERIFYING, 8e-3)
    new.drafting = {"draft": dict.fromkeys(VERIFYING, 8e-3)}
    new.trace()
    new.measure()
    assert any("the prediction misses by more than 10%" in line for line in warnings(new))


def test_models_on_two_devices(tuning: Made, models: Models) -> None:
    assert models.drafter is not None
    source = Source("draft", ModelDrafter(models.drafter))
    new = tuning(source)
    assert warnings(new) == []
    models.drafter.device = torch.device("meta")
    [said] = warnings(new)
    assert "draft runs on meta, the target on cpu" in said


@pytest.mark.usefixtures("clock")
def test_the_gate_is_advised_where_it_is_near(
    tuning: Made, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert models.drafter is not None
    done = run(tuning(Source("draft", ModelDrafter(models.drafter)), tokens=8))
    speeds = {"plain": 1.0, "draft@1": 1.5, "draft@3": 2.0, "draft@6": 1.2, "draft gate": 1.95}
    monkeypatch.setattr(Tuning, "measured", lambda _, name: speeds[name])
    monkeypatch.setattr(Tuning, "gain", lambda _, name: Interval(speeds[name], 1.1, 3.0))
    assert advised(done).name == "draft gate"
    assert recipe_of(done, Recipe()).draft_length == "gate"
    speeds["draft gate"] = 1.5
    assert advised(done).name == "draft@3"
    assert recipe_of(done, Recipe()).draft_length == 3
    monkeypatch.setattr(Tuning, "gain", lambda _, name: Interval(speeds[name], 0.9, 3.0))
    assert advised(done).name == "plain"


@pytest.mark.usefixtures("clock")
def test_what_decides_by_itself(
    tuning: Made, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert models.drafter is not None
    tree = Source("draft", TreeDrafter(models.drafter, "fixed(depth=2)"), "fixed(depth=2)")
    done = run(tuning(tree, Source("suffix", SuffixDrafter()), tokens=8))
    speeds = dict.fromkeys([one.name for one in done.candidates], 1.0)
    monkeypatch.setattr(Tuning, "measured", lambda _, name: speeds[name])
    monkeypatch.setattr(Tuning, "gain", lambda _, name: Interval(speeds[name], 1.1, 3.0))
    speeds |= {"suffix": 1.5, "draft tree:fixed(depth=2)": 2.0}
    recipe = recipe_of(done, Recipe())
    assert (recipe.drafter, recipe.draft_length, recipe.tree) == ("suffix", "fixed", None)
    speeds["draft tree:fixed(depth=2) gate"] = 1.9
    recipe = recipe_of(done, Recipe())
    assert (recipe.drafter, recipe.draft_length) == ("draft", None)
    assert recipe.tree == "fixed(depth=2)"
