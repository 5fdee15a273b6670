import copy

import pytest

import ttft
from outpace.bench import BenchPrompt, Models, Record
from outpace.bench.baselines import cannot_assist
from outpace.models.tiny import tiny_model


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    models = Models(tiny_model(), tiny_model(layers=1))
    texts = ("the cat and the dog", "once upon a time")
    prompts = [BenchPrompt("own", str(number), text) for number, text in enumerate(texts)]
    return ttft.run(models, {8: prompts, 16: prompts}, warmup=0)


def slower(records: dict[str, Record], method: str, factor: float) -> dict[str, Record]:
    """The same, every method as fast as hf but for one."""
    made = copy.deepcopy(records)
    for record in made.values():
        for one in record["results"]:
            for run in one["runs"]:
                run["ttft_ms"] = 10.0 * (factor if one["method"] == method else 1.0)
                run["ttft_ms"] *= 2.0 if one["method"] == "hf-assisted" else 1.0
    return made


def test_all_methods_take_turns(records: dict[str, Record]) -> None:
    assert list(records) == ["8", "16"]
    models = Models(tiny_model(), tiny_model(layers=1))
    expected = [name for name in ttft.METHODS if name != "hf-assisted" or not cannot_assist(models)]
    for record in records.values():
        assert record["config"]["methods"] == expected
        assert all(len(one["runs"]) == 2 for one in record["results"])


def test_what_is_wanted(records: dict[str, Record]) -> None:
    assert ttft.misses(slower(records, "draft", 1.1)) == []
    missed = ttft.misses(slower(records, "draft", 1.2))
    assert len(missed) == 2
    assert missed[0] == "`draft` takes 1.20 (1.20–1.20) × `hf` at 8 tokens."
    page = ttft.page(slower(records, "draft", 1.1))
    assert "At every length all take at most 1.15 × the time of `hf`" in page
    assert "`draft` takes 1.20" in ttft.page(slower(records, "draft", 1.2))
    if "hf-assisted" in records["8"]["config"]["methods"]:
        assert any("× `hf-assisted`" in one for one in ttft.misses(slower(records, "draft", 2.1)))
