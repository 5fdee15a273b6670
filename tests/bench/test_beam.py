"""Beam search as a method of the benchmark: compared with transformers' own, like with like."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from outpace.beam import BeamSearch
from outpace.bench import (
    Bench,
    BenchPrompt,
    Models,
    Writing,
    check_methods,
    environment,
    make_method,
    make_record,
    method_names,
)
from outpace.bench.beam import BEAMS, Beam, HuggingFaceBeam, Step, Trace, explained
from outpace.bench.differences import Difference, Judge
from outpace.bench.report import is_wrong, markdown, verdict
from outpace.errors import InvalidArgument

WRITING = Writing(24)
CONFIG: dict[str, Any] = {
    "target": "tiny",
    "drafter": None,
    "prompts": ["own"],
    "max_new_tokens": 24,
    "repeats": 1,
    "temperature": 0.0,
    "dtype": "float32",
    "draft_length": "5",
    "command": "outpace bench",
}


def record_of(models: Models, prompts: list[BenchPrompt]) -> dict[str, Any]:
    methods = [make_method(name, models, 5) for name in check_methods(["plain", "beam"])]
    bench = Bench(models, methods, prompts, WRITING)
    return make_record(bench.run(), CONFIG, environment())


def test_its_text_is_compared_with_that_of_transformers_beam_search(
    models: Models, prompts: list[BenchPrompt]
) -> None:
    record = record_of(models, prompts)
    compared = {
        one["method"]: (one["identical"], one["compared_with"]) for one in record["results"]
    }
    assert compared == {
        "hf": (None, None),
        "hf-beam": (None, None),
        "plain": (True, "hf"),
        "beam": (True, "hf-beam"),
    }
    assert not is_wrong(record)
    assert "as hf-beam" in markdown(record)
    assert "beam is" in verdict(record)
    assert "× hf-beam" in verdict(record)
    hf, _, _, beam = record["results"]
    assert hf["runs"][0]["new_tokens"] == beam["runs"][0]["new_tokens"] == 24
    assert beam["settings"] == {"beams": 4}


def test_a_wrong_search_is_a_bug(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    totals = BeamSearch.totals

    def wrong(self: BeamSearch, logits: torch.Tensor) -> torch.Tensor:
        right = totals(self, logits)
        return right.flip(0) if self.stats.forwards == 5 else right

    monkeypatch.setattr(BeamSearch, "totals", wrong)
    record = record_of(models, prompts)
    beam = record["results"][-1]
    assert {one["kind"] for one in beam["differences"]} == {"bug"}
    assert is_wrong(record)
    assert "BUGS" in markdown(record)


def test_near_ties_of_low_precision_are_told_from_bugs(
    in_dtype: Callable[[torch.dtype], Models], prompts: list[BenchPrompt]
) -> None:
    models = in_dtype(torch.bfloat16)
    more = [
        BenchPrompt("own", str(n), f"{prompt.text} {n}") for n in range(4) for prompt in prompts
    ]
    record = record_of(models, more)
    beam = record["results"][-1]
    assert beam["differences"]  # of this many texts some do differ
    assert {one["kind"] for one in beam["differences"]} <= {"numerical", "unclear"}
    assert "numerical" in {one["kind"] for one in beam["differences"]}


class Known(Judge):
    """A judge that knows the truth."""

    def __init__(self, totals: dict[tuple[int, ...], torch.Tensor]) -> None:
        self._totals = totals

    def true_totals(self, prompt: Any, path: Any) -> torch.Tensor:
        return self._totals[tuple(path)]


@pytest.mark.parametrize(("error", "kind"), [(0.03, "numerical"), (0.01, "bug")])
def test_what_a_near_tie_is(error: float, kind: str) -> None:
    true = torch.tensor([-1.0, -1.05, -9.0, -9.0, -9.0, -9.0, -9.0, -9.0])
    one, two = true.clone(), true.clone()
    one[0] -= error
    two[1] += error
    found = explained(
        Difference(0, 0, 0, 1),
        [5],
        Trace([Step([()], one[None])], (1,)),
        Trace([Step([()], two[None])], (0,)),
        Known({(): true}),
    )
    assert found.kind == kind
    assert found.distance == pytest.approx(0.05)
    assert found.deviation == pytest.approx(error)


def test_a_text_that_does_not_come_out_again_is_unclear() -> None:
    trace = Trace([Step([()], torch.zeros(1, 8))], (3,))
    difference = Difference(0, 0, 0, 1)
    assert explained(difference, [5], trace, trace, Known({})) == difference
    assert difference.kind == "unclear"


def test_the_steps_of_transformers_are_found_again(
    models: Models, prompts: list[BenchPrompt]
) -> None:
    ours, theirs = Beam("beam", models), HuggingFaceBeam("hf-beam", models)
    for prompt in prompts:
        with theirs.ready():
            expected = theirs.trace(prompt, WRITING)
        with ours.ready():
            own = ours.trace(prompt, WRITING)
        assert own.text == expected.text == next(iter(expected.steps[-1].best(1)))
        for number, (one, other) in enumerate(zip(own.steps, expected.steps, strict=True)):
            assert one.paths == other.paths
            assert torch.allclose(one.totals, other.totals, atol=1e-3)
            assert own.chosen(number) == expected.chosen(number)
            assert number == 23 or set(other.best(BEAMS)) == expected.chosen(number)


def test_samples(models: Models, prompts: list[BenchPrompt]) -> None:
    for name in ("hf-beam", "beam"):
        method = make_method(name, models, 5)
        with method.ready():
            sample = method.write(prompts[0], WRITING)
        assert len(sample.tokens) == 24
        assert (sample.forwards, sample.emitted) == (23, 23)
        assert (sample.drafted, sample.accepted) == (0, 0)
        assert sample.ttft == sample.seconds  # nothing is known before all is
        assert sample.tpot is None
        assert sample.kv_bytes > 0


def test_names() -> None:
    assert {"beam", "hf-beam"} <= set(method_names())
    assert check_methods(["beam"]) == ["hf", "hf-beam", "beam"]
    assert check_methods(["beam", "hf-beam"]) == ["hf", "beam", "hf-beam"]
    assert check_methods(["hf-beam"]) == ["hf", "hf-beam"]
    for name in ("beam", "hf-beam"):
        with pytest.raises(InvalidArgument, match=r"with temperature 0\.7: give 0"):
            check_methods([name], 0.7)
        with pytest.raises(InvalidArgument, match="takes no draft length"):
            check_methods([f"{name}@4"])


def test_the_model_gets_its_settings_back(models: Models, prompts: list[BenchPrompt]) -> None:
    before = models.target.model.generation_config
    method = HuggingFaceBeam("hf-beam", models)
    with method.ready():
        sample = method.write(prompts[0], replace(WRITING, max_new_tokens=5))
    assert len(sample.tokens) == 5
    assert models.target.model.generation_config is before
