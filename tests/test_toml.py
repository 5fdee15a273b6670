"""Plain values as TOML and back."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outpace.errors import InvalidArgument
from outpace.toml import dumps

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = TEXTS | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
VALUES = PLAIN | st.lists(PLAIN, max_size=3)
TABLES = st.recursive(
    st.dictionaries(TEXTS, VALUES, max_size=3),
    lambda inner: st.dictionaries(TEXTS, VALUES | inner, max_size=3),
    max_leaves=6,
)


@given(TABLES)
def test_what_is_written_is_read(values: dict[str, Any]) -> None:
    assert tomllib.loads(dumps(values)) == values


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a\nb", "a\x7fb", "\x00", "é😀", "# no comment"])
def test_quoting(text: str) -> None:
    written = dumps({text: text})
    assert tomllib.loads(written) == {text: text}
    assert len(written.splitlines()) == 1
    assert not is_toml(f"{text} = 1")  # the negative control: the key as it is


def is_toml(text: str) -> bool:
    try:
        return bool(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return False


def test_how_it_looks() -> None:
    values = {"costs": {"verifying": {1: 0.008}, "held": 128}, "tree": None, "threads": 2}
    assert dumps(values) == "threads = 2\n\n[costs]\nheld = 128\n\n[costs.verifying]\n1 = 0.008\n"


def test_an_empty_table_stays() -> None:
    assert tomllib.loads(dumps({"a": {"b": {}}})) == {"a": {"b": {}}}
    assert tomllib.loads(dumps({})) == {}


@pytest.mark.parametrize("value", [object(), b"bytes", [None], "\ud800"])
def test_what_cannot_be_written(value: object) -> None:
    with pytest.raises(InvalidArgument, match="give"):
        dumps({"name": value})
