from collections import Counter

import pytest

from outpace.bench import Models, fit_prompts, load_prompts
from outpace.bench.synthetic_text import SPAN, SyntheticText
from outpace.errors import InvalidArgument
from outpace.models import LanguageModel, load


def copied(words: list[str], order: int = 6) -> float:
    """The share of a text that stood in it before, by runs of ``order`` words."""
    seen: set[tuple[str, ...]] = set()
    old: set[int] = set()
    for start in range(len(words) - order + 1):
        run = tuple(words[start : start + order])
        if run in seen:
            old.update(range(start, start + order))
        seen.add(run)
    return len(old) / len(words)


@pytest.mark.parametrize("repeats", [0.0, 0.25, 0.5, 0.75])
def test_the_share_that_repeats(repeats: float) -> None:
    words = SyntheticText(repeats=repeats).words(0, 200 * SPAN)
    assert copied(words) == pytest.approx(repeats, abs=0.03)


def test_all_but_the_first_span() -> None:
    words = SyntheticText(repeats=1.0).words(0, 10 * SPAN)
    assert len(set(words)) <= SPAN
    assert words[:SPAN] == SyntheticText().words(0, SPAN)


def test_the_same_text_for_the_same_seed() -> None:
    first = [prompt.text for prompt in load_prompts(["synthetic"], limit=9)]
    assert first == [prompt.text for prompt in load_prompts(["synthetic(seed=0)"], limit=9)]
    assert len(set(first)) == 8
    assert first != [prompt.text for prompt in load_prompts(["synthetic(seed=1)"], limit=9)]
    assert first[0].split()[:6] == ["give", "sad", "take", "hold", "noise", "step"]


def test_counts_and_lengths() -> None:
    prompts = load_prompts(["synthetic(count=3)", "synthetic(tokens=9)"], prompt_tokens=20, limit=5)
    assert Counter(prompt.workload for prompt in prompts) == {
        "synthetic(count=3)": 3,
        "synthetic(tokens=9)": 5,
    }
    assert {(prompt.workload[10:], prompt.tokens) for prompt in prompts} == {
        ("count=3)", 20),
        ("tokens=9)", 9),
    }


@pytest.mark.parametrize("tokens", [1, 17, 300])
def test_an_exact_number_of_tokens(tokens: int) -> None:
    target: LanguageModel = load("zoo:target", device="cpu")
    prompts = load_prompts([f"synthetic(tokens={tokens}, repeats=0.5)"])
    fitted, cut = fit_prompts(prompts, Models(target, None), 8)
    assert cut == 0
    assert target.tokenizer is not None
    lengths = [
        len(target.tokenizer(one.text, add_special_tokens=False)["input_ids"]) for one in fitted
    ]
    assert lengths == [tokens] * 8


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("synthetic(tokens=0)", "synthetic: tokens 0: give 1 or more"),
        ("synthetic(count=0)", "synthetic: count 0: give 1 or more"),
        ("synthetic(seed=-1)", "synthetic: seed -1: give 0 or more"),
        ("synthetic(repeats=1.5)", r"synthetic: repeats 1\.5: give a share, 0 to 1"),
        ("synthetic(repeats=nan)", "synthetic: repeats nan: give a number"),
        ("synthetic(tokens=many)", "synthetic: tokens many: give a whole number"),
        ("synthetic(repeat=1)", "did you mean 'repeats'"),
        ("synthetic(", r"give NAME\(KEY=VALUE, ...\), as in synthetic\(tokens=64"),
    ],
)
def test_settings_that_are_none(name: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        load_prompts([name])
