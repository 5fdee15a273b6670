"""Presets: their values, what wins over them, how they fit models, and what is refused."""

from pathlib import Path

import pytest
import torch

from outpace.cache.policies import make_policy
from outpace.cache.policies.streaming import StreamingPolicy
from outpace.decoder import Decoder
from outpace.errors import InvalidArgument, UnknownName
from outpace.models import LanguageModel
from outpace.models.tiny import tiny_model
from outpace.presets import LEAST, PRESETS, fitted, needed, notes, preset, preset_recipe
from outpace.recipe import Recipe

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tiny_model(), tmp_path_factory.mktemp("models") / "target")


def saved(model: LanguageModel, place: Path) -> Path:
    model.model.set_attn_implementation("sdpa")
    model.model.save_pretrained(place)
    model.tokenizer.save_pretrained(place)  # type: ignore[union-attr]
    return place


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("short", ("float16", 5, None)),
        ("long", ("float16", 4, "streaming(sinks=4, recent=1020)")),
        ("balanced", ("float16", 4, "streaming(sinks=4, recent=508)")),
        ("least-memory", ("int8", 3, "streaming(sinks=4, recent=252)")),
    ],
)
def test_values(name: str, values: tuple[object, ...]) -> None:
    made = PRESETS[name].recipe("a", "b", device=GPU, context=2048, drafts=True)
    assert (made.target, made.drafter, made.device) == ("a", "b", "cuda")
    assert (made.dtype, made.draft_length, made.cache_policy) == values
    assert made.drafter_cache_policy == made.cache_policy
    assert made.runtime == ("compile" if name == "short" else "auto")
    assert made.drafter_dtype is None  # that of the target: int8 too
    without = PRESETS[name].recipe("a", "ngram", device=GPU)
    assert without.drafter_cache_policy is None  # there is nothing it could forget


def test_a_cpu_computes_in_bfloat16() -> None:
    for name in ("short", "long", "balanced"):
        made = PRESETS[name].recipe(device=CPU)
        assert (made.dtype, made.runtime) == ("bfloat16", "auto")
        assert f"preset {name}: bfloat16" in notes(name, made)[0]
        assert notes(name, made, given=["dtype"]) == []
    made = PRESETS["least-memory"].recipe(device=CPU)
    assert made.dtype == "int8"
    assert notes("least-memory", made) == []


def test_one_is_unknown() -> None:
    with pytest.raises(
        UnknownName, match=r"'sort' \(did you mean 'short'\?\): choose one of short"
    ):
        preset("sort")


@pytest.mark.parametrize("context", [130, 200, 512, 640, 1151, 1152, 4096, None])
def test_as_much_is_kept_as_fits(context: int | None) -> None:
    wanted = StreamingPolicy(4, 1020)
    policy = fitted(wanted, context)
    assert policy.sinks == 4
    if context is None or needed(wanted) <= context:
        assert policy == wanted
        return
    assert needed(policy) <= context
    # the negative control: a token more is refused
    assert needed(StreamingPolicy(4, policy.recent + 1)) > context


def test_what_fits_is_taken_by_a_model() -> None:
    target = tiny_model()  # of 512 positions
    policy = fitted(StreamingPolicy(4, 1020), target.context_length)
    Decoder(target, cache_policy=policy).session()
    with pytest.raises(InvalidArgument, match="keep less"):
        Decoder(target, cache_policy=make_policy("streaming(sinks=4, recent=1020)"))


def test_too_few_positions() -> None:
    least = needed(StreamingPolicy(4, LEAST))
    assert fitted(StreamingPolicy(), least).recent == LEAST
    with pytest.raises(InvalidArgument, match=f"has {least - 1} positions.*give --cache-policy"):
        PRESETS["long"].recipe("a", device=CPU, context=least - 1)


def test_for_models_by_name(folder: Path) -> None:
    place = str(folder)
    made = preset_recipe("long", place, place, device="cpu")
    shrunk = str(fitted(StreamingPolicy(4, 1020), 512))
    assert (made.cache_policy, made.drafter_cache_policy) == (shrunk, shrunk)
    assert [f"to fit the context of {place}" in note for note in notes("long", made)] == [
        False,
        True,
        True,
    ]
    for drafter in ("prompt-lookup", "none", "early-exit(layers=1)", f"cascade:{place}"):
        made = preset_recipe("long", place, drafter, device="cpu")
        assert (made.drafter, made.drafter_cache_policy) == (drafter, None)
    # the embedded target has a draft model of its own, which a length asks for alone
    assert preset_recipe("balanced", device="cpu").drafter == "zoo:large"
    assert preset_recipe("balanced", place, device="cpu").drafter == "prompt-lookup"


def test_what_is_given_wins(folder: Path) -> None:
    place = str(folder)
    given = {"draft_length": 2, "dtype": "float32", "cache_policy": "full", "verifier": "block"}
    made = preset_recipe("long", place, place, device="cpu", given=given)
    assert [getattr(made, name) for name in given] == list(given.values())
    assert made.drafter_cache_policy is not None
    assert made.target == made.drafter == place
    tree = preset_recipe("short", place, place, device="cpu", given={"tree": "best_first"})
    assert (tree.tree, tree.draft_length) == ("best_first", None)


def test_a_policy_that_is_given_is_not_looked_into(folder: Path, tmp_path: Path) -> None:
    small = str(saved(tiny_model(context_length=80), tmp_path / "small"))
    with pytest.raises(InvalidArgument, match="has 80 positions"):
        preset_recipe("balanced", small, "none", device="cpu")
    given = {"cache_policy": "full"}
    assert preset_recipe("balanced", small, "none", device="cpu", given=given).dtype == "bfloat16"
    with pytest.raises(InvalidArgument, match=f"preset balanced: {small} has 80 positions"):
        preset_recipe("balanced", str(folder), small, device="cpu", given=given)
    assert preset_recipe("short", small, "none", device="cpu").cache_policy is None


@pytest.mark.parametrize("name", PRESETS)
def test_all_run(folder: Path, name: str, tmp_path: Path) -> None:
    """From a file as well: a preset is a recipe."""
    made = preset_recipe(name, str(folder), str(folder), device="cpu")
    made.write(tmp_path / "recipe.toml")
    assert Recipe.read(tmp_path / "recipe.toml") == made
    decoder = made.decoder()
    output = decoder.generate("the cat and the dog", max_new_tokens=8, ignore_eos=True)
    assert len(output.tokens) == 8
    assert decoder.exact == (name == "short")
    assert decoder.target.precision == ("int8" if name == "least-memory" else "bfloat16")
