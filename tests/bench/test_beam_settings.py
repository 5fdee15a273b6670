"""Beam searches with a number of beams in their names."""

import pytest

from outpace.bench import Bench, BenchPrompt, Models, Writing, check_methods, make_method
from outpace.bench.beam import beams_of, counterpart
from outpace.errors import InvalidArgument


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
def test_both_searches_agree(models: Models, prompts: list[BenchPrompt], beams: int) -> None:
    names = ("hf", f"hf-beam(beams={beams})", f"beam(beams={beams})")
    methods = [make_method(name, models, 4) for name in names]
    done = Bench(models, methods, prompts, Writing(16), warmup=0).run()
    assert done.failed is None
    texts = [[done.samples[name][key].tokens for key in done.keys] for name in names]
    assert texts[1] == texts[2]
    assert done.differences[names[2]] == []
    assert (texts[0] == texts[1]) == (beams == 1)  # one beam is greedy; more find other texts
    assert methods[2].settings == {"beams": beams}


def test_a_search_brings_its_counterpart() -> None:
    names = check_methods(["beam(beams=3)"])
    assert names == ["hf", "hf-beam(beams=3)", "beam(beams=3)"]
    assert counterpart("beam") == "hf-beam"
    assert beams_of("beam") == beams_of("hf-beam") == 4
    assert beams_of("hf-beam(beams=3)") == 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("beam(beams=0)", "0"),
        ("beam(beams=-2)", "-2"),
        ("beam(beams=x)", "x"),
        ("beam(beams=2.5)", "2.5"),
        ("beam(beam=3)", "did you mean 'beams'"),
        ("beam(beams=3", "beam(beams=3"),
        ("beam(3)", "3"),
        ("beam(beams=3)@2", "takes no draft length"),
        ("hf-beam(beams=0)", "0"),
    ],
)
def test_settings_that_are_none(name: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_methods([name])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_beams_do_not_sample() -> None:
    with pytest.raises(InvalidArgument, match=r"temperature 0\.5: give 0"):
        check_methods(["beam(beams=3)"], 0.5)
