from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import ablation
from ablation_variants import (
    Cropped,
    Rebuilt,
    RebuiltOneByOne,
    Variant,
    WrittenOneByOne,
    repeated,
    sdpa,
    shapes_as_they_come,
    written_out,
)
from outpace.bench import BenchPrompt, Models, Writing
from outpace.bench.sample import Sample
from outpace.cache import Session
from outpace.models import attention
from outpace.models.tiny import tiny_model
from outpace.types import TokenTree

WRITING = Writing(max_new_tokens=24)
PROMPT = BenchPrompt("own", "0", "the cat and the dog and the cat and")
HELD = (Rebuilt, RebuiltOneByOne, WrittenOneByOne, Cropped)
CHANGES = (shapes_as_they_come, repeated, sdpa, written_out)


def blurred() -> Any:
    """A drafter that is often right, and not always."""
    model = tiny_model()
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.model.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=noise))
    return model


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(tiny_model(), blurred())


@pytest.fixture(scope="module")
def usual(models: Models) -> Sample:
    return written(Variant("draft", models))


def written(variant: Variant) -> Sample:
    with variant.ready():
        return variant.write(PROMPT, WRITING)


def as_usual(sample: Sample, usual: Sample) -> bool:
    figures = ("tokens", "forwards", "drafted", "accepted")
    return all(getattr(sample, name) == getattr(usual, name) for name in figures)


def test_every_variant_writes_the_same(models: Models, usual: Sample) -> None:
    assert 0 < usual.accepted < usual.drafted
    for held in HELD:
        assert as_usual(written(Variant("other", models, held=held)), usual)
    for change in CHANGES:
        assert as_usual(written(Variant("other", models, changes=[change])), usual)


def test_a_wrong_cache_would_show(models: Models, usual: Sample) -> None:
    class Torn(Cropped):
        def _crop(self, count: int) -> None:
            super()._crop(count - 1)  # one rejected token stays

    with pytest.raises((AssertionError, RuntimeError, IndexError)):
        assert as_usual(written(Variant("torn", models, held=Torn)), usual)


def forwards(kind: type[Session], path: Sequence[int]) -> list[int]:
    """The widths of the forwards of one round of five draft tokens."""
    session, widths = kind(tiny_model()), list[int]()
    session.prefill([1, 2, 3])
    compute = session._compute

    def count(tokens: Tensor, *given: Any, **settings: Any) -> Tensor:
        widths.append(len(tokens))
        return compute(tokens, *given, **settings)

    session._compute = count  # type: ignore[method-assign]
    tree = TokenTree.chain(4, [5, 6, 7, 8, 9])
    session.forward(tree)
    session.commit(tree, path)
    assert [int(token) for token in session.tokens] == [1, 2, 3, *range(4, 5 + len(path))]
    return widths


def test_what_is_computed_again() -> None:
    some, everything = (1, 2), (1, 2, 3, 4, 5)
    assert forwards(Session, some) == [6]
    assert forwards(Rebuilt, some) == [6, 3]
    assert forwards(RebuiltOneByOne, some) == [6, 1, 1, 1]
    for kind in (Session, Rebuilt, RebuiltOneByOne):
        assert forwards(kind, everything) == [6]


def test_writes_are_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and values of two layers: four writes of a round, or four a token."""
    counted = []
    for kind in (Session, WrittenOneByOne):
        session = kind(tiny_model())
        session.prefill([1, 2, 3])
        writes = 0
        write = Tensor.index_copy_

        def count(self: Tensor, *given: Any, write: Any = write) -> Tensor:
            nonlocal writes
            writes += 1
            return write(self, *given)

        with monkeypatch.context() as patch:
            patch.setattr(Tensor, "index_copy_", count)
            session.forward(TokenTree.chain(4, [5, 6, 7]))
        counted.append(writes)
    assert counted == [4, 16]


def test_changes_do_not_stay(models: Models) -> None:
    seen: list[tuple[int, int]] = []
    run = models.target.step.run

    def watched(
        tokens: Tensor, where: Any, ancestors: Any, keep: Any, held: Tensor, *others: Any
    ) -> Any:
        seen.append((len(tokens), len(held)))
        return run(tokens, where, ancestors, keep, held, *others)

    models.target.step.run = watched  # type: ignore[method-assign]
    try:
        written(Variant("other", models, changes=[shapes_as_they_come]))
        loose = list(seen)
        seen.clear()
        written(Variant("other", models, changes=[repeated, sdpa]))
    finally:
        del models.target.step.run
    assert {width for width, _ in loose} & {3, 5, 6, 35}
    assert all(width in {1, 2, 4, 8, 64} and slots % 64 == 0 for width, slots in seen)
    interface = attention.AttentionInterface()
    assert interface[attention.NAME] is attention.slot_attention


def test_one_run_and_its_page(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "GATE", "adaptive")
    prompts = [PROMPT, BenchPrompt("long", "1", PROMPT.text * 4)]
    record = ablation.run(models, models, prompts, Writing(8), warmup=0)
    names = record["config"]["methods"]
    assert {name for _, *both in ablation.STEPS for name in both} == set(names)
    assert all(one["identical"] in {None, True} for one in record["results"])
    text = ablation.page(record)
    assert all(label in text for label, *_ in ablation.STEPS)
    assert "FlashAttention-2" in text


def test_a_model_that_is_not_compiled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Eager:
        runtime_name, runtime_note = "eager", "no compiler: install g++"

        def use_runtime(self, *_: object, **__: object) -> None:
            pass

    monkeypatch.setattr(ablation, "load", lambda *_, **__: Eager())
    with pytest.raises(ablation.RuntimeUnavailable, match="install g"):
        ablation.compiled_model("zoo:target")
