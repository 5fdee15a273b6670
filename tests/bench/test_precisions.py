import os
from collections.abc import Callable

import pytest
import torch

from outpace.bench import Bench, BenchPrompt, Models, Writing, check_methods, make_method
from outpace.bench.names import in_precision, with_length
from outpace.bench.plan import plain_in
from outpace.bench.precisions import canonical, models_of
from outpace.errors import InvalidArgument, UnknownName
from outpace.models import LanguageModel, load

SEP = os.sep


@pytest.fixture
def narrow(in_dtype: Callable[[torch.dtype], Models]) -> Models:
    """A pair in bfloat16, each with a name of its own."""
    made = in_dtype(torch.bfloat16)
    assert made.drafter is not None
    made.target.name, made.drafter.name = "the target", "the drafter"
    return made


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is loaded by name, and in which dtype."""
    asked = []

    def noted(name: str, **settings: object) -> LanguageModel:
        asked.append((name, str(settings["dtype"])))
        return load(name, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr("outpace.bench.precisions.load", noted)
    return asked


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("plain", ("plain", None, None)),
        ("plain in int8", ("plain", "int8", None)),
        ("draft@3 in bf16", ("draft@3", "bf16", None)),
        ("draft@3 in float32/int4", ("draft@3", "float32", "int4")),
        ("tree:fixed(depth=2, branch=2) in nf4", ("tree:fixed(depth=2, branch=2)", "nf4", None)),
        ("hf in bnb-int8", ("hf", "bnb-int8", None)),
        ("zoo:small@2 in fp8/bnb-int8", ("zoo:small@2", "fp8", "bnb-int8")),
        ("ngram with recent(64)/full in nf4", ("ngram with recent(64)/full", "nf4", None)),
        (f"{SEP}made with care in bf16", (f"{SEP}made with care in bf16", None, None)),
        (f"{SEP}made in bf16", (f"{SEP}made in bf16", None, None)),
        (f"{SEP}made in china{SEP}model", (f"{SEP}made in china{SEP}model", None, None)),
        (f".{SEP}models in int8", (f".{SEP}models in int8", None, None)),
        ("suffix(keep='a in b')", ("suffix(keep='a in b')", None, None)),
        ("plain in ", ("plain in ", None, None)),
        ("plain in int8/int4/nf4", ("plain in int8/int4/nf4", None, None)),
    ],
)
def test_what_a_name_says_of_precisions(
    name: str, found: tuple[str, str | None, str | None]
) -> None:
    assert in_precision(name) == found


@pytest.mark.parametrize("name", ["plain in int3", "draft in int8/half", "plain in in"])
def test_dtypes_that_there_are_not(name: str) -> None:
    with pytest.raises(UnknownName, match=r"unknown dtype '(int3|half|in)': choose one of") as no:
        in_precision(name)
    assert "\n" not in str(no.value)
    with pytest.raises(UnknownName):
        check_methods([name])


def test_a_length_stands_before_the_precisions() -> None:
    assert with_length("draft@3 in bf16/int8") == ("draft", "3")
    assert with_length("draft in int8") == ("draft", None)
    assert canonical("bf16") == canonical("bfloat16") == "bfloat16"
    assert canonical("nf4") == "nf4"
    with pytest.raises(UnknownName):
        canonical("int3")


def test_plain_decoding_in_that_precision_is_added() -> None:
    assert plain_in("draft@3 in int8/int4") == "plain in int8"
    assert plain_in("draft@3") is None
    assert check_methods(["draft@3 in int8"]) == ["hf", "plain in int8", "draft@3 in int8"]
    assert check_methods(["draft@3 in int8/int4", "plain in int8", "ngram in int4"]) == [
        "hf",
        "plain in int4",
        "draft@3 in int8/int4",
        "plain in int8",
        "ngram in int4",
    ]
    assert check_methods(["draft@3"]) == ["hf", "draft@3"]
    assert check_methods(["draft in int8"], 0.7)[:3] == ["hf", "plain", "plain in int8"]


@pytest.mark.parametrize(
    ("name", "method"), [("recipe in int8", "recipe"), ("beam in int8", "beam")]
)
def test_recipes_and_beams_have_the_dtype_of_all(name: str, method: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        check_methods([name])
    assert str(refusal.value) == (
        f"method {name!r}: {method} runs in the dtype of all: leave 'in …' out"
    )
    assert method in check_methods([method])


def test_copies_are_made_once(narrow: Models) -> None:
    one, two = models_of("plain in int8", narrow), models_of("draft@3 in int8/int8", narrow)
    assert one.target is two.target
    assert one.target is not narrow.target
    assert one.drafter is narrow.drafter
    assert two.drafter is not None
    assert two.drafter is not narrow.drafter
    assert (one.target.precision, two.drafter.precision) == ("int8", "int8")
    assert set(narrow.others.values()) == {one.target, two.drafter}
    assert one.others is narrow.others
    assert narrow.target.precision == "bfloat16"


def test_models_of_one_name_have_copies_of_their_own(narrow: Models) -> None:
    assert narrow.drafter is not None
    narrow.drafter.name = narrow.target.name
    found = models_of("draft in int8/int8", narrow)
    assert found.drafter is not None
    assert found.drafter is not found.target
    assert found.drafter.fingerprint != found.target.fingerprint
    again = models_of("draft in int8/int8", narrow)
    assert (again.target, again.drafter) == (found.target, found.drafter)


def test_its_own_precision_is_the_model_itself(narrow: Models) -> None:
    for name in ("plain", "plain in bf16", "plain in bfloat16", "draft in bfloat16/bf16"):
        found = models_of(name, narrow)
        assert found.target is narrow.target
        assert found.drafter is narrow.drafter
    assert not narrow.others
    lone = Models(narrow.target, None)
    assert models_of("draft in bf16/int8", lone).drafter is None


def test_a_quantised_copy_shares_what_is_not_quantised(narrow: Models) -> None:
    small = models_of("plain in int8", narrow).target
    ours = narrow.target.model.get_input_embeddings().weight
    assert small.model.get_input_embeddings().weight is ours
    assert small.source is None
    assert small.weight_bytes < narrow.target.weight_bytes


def test_a_wrapped_model_cannot_be_had_in_another_dtype(models: Models, narrow: Models) -> None:
    for pair, dtype, name, own in (
        (models, "int8", "a tiny random model", "float32"),
        (narrow, "float32", "the target", "bfloat16"),
    ):
        with pytest.raises(InvalidArgument) as refusal:
            models_of(f"plain in {dtype}", pair)
        assert str(refusal.value) == (
            f"{name} in {dtype}: it was not loaded by name, and is in {own}: load it in bfloat16, "
            "or by its folder"
        )
        assert not pair.others


def test_what_was_loaded_by_name_is_loaded_again(loads: list[tuple[str, str]]) -> None:
    wide = Models(load("zoo:small", dtype="float32", device="cpu"), None)
    small, half = (models_of(f"plain in {one}", wide).target for one in ("int8", "bf16"))
    assert loads == [("zoo:small", "int8"), ("zoo:small", "bfloat16")]
    assert (small.precision, half.precision) == ("int8", "bfloat16")
    assert small.source == ("zoo:small", "int8")
    models_of("draft in int8", wide)
    assert len(loads) == 2
    # from bfloat16 the copy is made, and is the one that would have been loaded
    made = models_of("plain in int8", Models(half, None)).target
    assert len(loads) == 2
    assert made.source == small.source
    assert made.fingerprint == small.fingerprint
    assert made.model.get_input_embeddings().weight is half.model.get_input_embeddings().weight


def test_what_a_text_is_compared_with(narrow: Models) -> None:
    compared = {
        name: make_method(name, narrow, 3).compared_with
        for name in ("hf", "plain", "plain in bf16", "plain in int8", "draft@3 in int8", "draft@3")
    }
    assert compared == {
        "hf": None,
        "plain": None,
        "plain in bf16": None,
        "plain in int8": "plain in int8",
        "draft@3 in int8": "plain in int8",
        "draft@3": None,
    }
    # a draft model in another precision drafts for the same text
    assert make_method("draft@3 in bf16/int8", narrow, 3).compared_with is None


def test_a_run_compares_each_precision_with_itself(narrow: Models) -> None:
    names = ["hf", "plain", "plain in int8", "draft@3 in int8"]
    assert check_methods(names) == names
    methods = [make_method(name, narrow, 4) for name in names]
    texts_of = ("in the beginning", "one two three", "the sea")  # on which they part soon
    prompts = [BenchPrompt("own", text, text) for text in texts_of]
    bench = Bench(narrow, methods, prompts, Writing(16), warmup=0)
    done = bench.run()
    assert done.failed is None
    texts = {
        name: [done.samples[name][key].tokens for key in sorted(done.samples[name])]
        for name in names
    }
    assert texts["plain in int8"] == texts["draft@3 in int8"]
    assert texts["plain in int8"] != texts["plain"]  # it is another model
    assert any(one.accepted for one in done.samples["draft@3 in int8"].values())
    for name in names[2:]:
        assert done.methods[name].reference == "plain in int8"
        assert not done.differences.get(name)
    weights = done.methods["draft@3 in int8"].weights
    assert list(weights) == ["the target (int8)", "the drafter"]
    assert weights["the target (int8)"] < done.methods["plain"].weights["the target"]
