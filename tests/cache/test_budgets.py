"""What ``outpace heads`` says each head needs, as a file."""

import json

import pytest

from outpace.cache.budgets import HeadBudget, HeadBudgets
from outpace.errors import InvalidArgument

BUDGETS = HeadBudgets(
    "a model",
    4,
    (
        (HeadBudget(0.5, "window", 8), HeadBudget(0.75, "sink+window", 64)),
        (HeadBudget(1.0, "full", None), HeadBudget(0.6, "window", 24)),
    ),
)


def test_they_are_read_back_as_they_were(tmp_path):
    path = tmp_path / "heads.json"
    path.write_text(json.dumps({**BUDGETS.record(), "more": "is not minded"}))
    assert HeadBudgets.read(path) == BUDGETS


def changed(**values):
    return json.dumps({**BUDGETS.record(), **values})


def with_head(**values):
    record = BUDGETS.record()
    record["budgets"][0][0] |= values
    return json.dumps(record)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "it is no JSON"),
        ("[]", "does not say format outpace-heads-1"),
        (changed(format="outpace-heads-0"), "does not say format"),
        (changed(layers=3), "other heads than it says"),
        (changed(kv_heads=[2, 1]), "other heads than it says"),
        (changed(budgets=[[{}]]), "KeyError"),
        (changed(budgets=3), "TypeError"),
        (with_head(share=1.5), "share 1.5 is not between 0 and 1"),
        (with_head(share="half"), "ValueError"),
        (with_head(kind="wide"), "kind 'wide' is none of sink.window, window, full"),
        (with_head(window=None), "window None of kind window"),
        (with_head(kind="full"), "window 8 of kind full"),
        (with_head(window=0), "window 0"),
    ],
)
def test_what_is_no_such_file_is_refused_in_a_line(tmp_path, text, said):
    path = tmp_path / "heads.json"
    path.write_text(text)
    with pytest.raises(InvalidArgument, match=said) as caught:
        HeadBudgets.read(path)
    assert "give a file that outpace heads wrote" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidArgument, match=r"gone\.json: no such file"):
        HeadBudgets.read(tmp_path / "gone.json")
