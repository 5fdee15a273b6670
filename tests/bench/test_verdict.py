"""What a measurement says: what to use, by how much, and whether the text is the same."""

from typing import Any

import pytest

from outpace.bench.verdict import fastest, sameness, spoken


def result(method: str, value: float, low: float | None = None, **more: Any) -> dict[str, Any]:
    high = None if low is None else 2 * value - low
    return {
        "method": method,
        "exact": True,
        "speedup_vs_hf": {"value": value, "low": low, "high": high},
        "identical": True,
        "compared_with": "hf",
        "differing_prompts": 0,
        "differences": [],
        **more,
    }


def record(*results: dict[str, Any], different: int = 12, **config: Any) -> dict[str, Any]:
    return {
        "results": [result("hf", 1.0, 1.0, identical=None), *results],
        "prompts": {"count": 24, "different": different},
        "config": {"temperature": 0.0, "dtype": "bfloat16", **config},
    }


def differing(*kinds: str) -> dict[str, Any]:
    found = [{"kind": kind} for kind in kinds]
    return {"identical": False, "differing_prompts": len(kinds), "differences": found}


def test_one_setting() -> None:
    told = fastest([record(result("draft@4", 2.1, 2.0), result("plain", 1.5, 1.4))])
    assert told == (
        "Use chain K = 4: 2.10 × [2.00, 2.20] transformers' generate on your prompts. It writes "
        "the same text, token for token."
    )
    assert fastest([record()]) == "Only the baseline was measured."


def test_nothing_is_advised_that_is_not_sure() -> None:
    told = fastest([record(result("suffix", 1.1, 0.9))])
    assert told.startswith("Nothing is faster than transformers' generate here for sure; ")
    assert "suffix at 1.10 × [0.90, 1.30]" in told
    few = fastest([record(result("suffix", 3.0, 2.9), different=2)])
    assert few.startswith("The fastest in this run was suffix at 3.00 ×")
    assert "so few texts make no sure figure" in few


def test_several_settings() -> None:
    both = [
        record(result("suffix", 2.0, 1.9), result("plain", 1.5, 1.4), result("one", 9.0, 8.0)),
        record(result("suffix", 1.8, 1.7), result("plain", 2.0, 1.9)),
    ]
    assert fastest(both) == (
        "Use suffix: 1.90 × transformers' generate over 2 settings (1.80 to 2.00 ×), the fastest "
        "in 1 of them. It writes the same text, token for token."
    )
    both[1]["results"][1]["speedup_vs_hf"]["low"] = 0.9
    assert "not for sure faster than the baseline in 1." in fastest(both)
    both[0]["prompts"]["different"] = 1
    assert "so few texts make no sure figure" in fastest(both)
    slow = [record(result("suffix", 0.8, 0.7)), record(result("suffix", 0.9, 0.8))]
    assert fastest(slow).startswith("Nothing is faster than transformers' generate here for sure")
    apart = [record(result("suffix", 2.0, 1.9)), record(result("plain", 2.0, 1.9))]
    assert fastest(apart) == "Only the baseline was measured in all settings."


def test_what_is_approximate_is_advised_only_alone() -> None:
    loose = result("lossy", 3.0, 2.9, exact=False)
    assert fastest([record(loose, result("plain", 2.0, 1.9))]).startswith(
        "Use plain decoding: 2.00"
    )
    assert fastest([record(loose)]).endswith("Its text is approximate.")


@pytest.mark.parametrize(
    ("more", "config", "said"),
    [
        ({}, {}, "It writes the same text, token for token."),
        ({"compared_with": "beam-hf"}, {}, "It writes the same text as beam-hf, token for token."),
        (
            differing("numerical", "numerical"),
            {},
            "It writes the same text but for near ties of bfloat16 in 2 of 24 texts.",
        ),
        (
            differing("numerical", "bug"),
            {},
            "Its text differs, and not all differences are near ties: see the table.",
        ),
        ({"identical": None}, {"temperature": 0.8}, "Its sampled text follows the same law."),
        ({"identical": None}, {}, "Its text was not compared."),
    ],
)
def test_sameness(more: dict[str, Any], config: dict[str, Any], said: str) -> None:
    assert sameness([record(result("suffix", 2.0, 1.9, **more), **config)], "suffix") == said


def test_names_as_one_says_them() -> None:
    assert [spoken(name) for name in ("draft@4", "plain", "ngram@4", "draft@gate")] == [
        "chain K = 4",
        "plain decoding",
        "ngram@4",
        "draft@gate",
    ]
