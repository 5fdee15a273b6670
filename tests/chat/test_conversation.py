import json
from pathlib import Path

import pytest

from outpace.chat import Conversation
from outpace.errors import InvalidArgument

SAID = Conversation("be brief").answered("hé", "ho\n", (1, 2)).answered("", "on")


def test_a_change_leaves_what_was_before() -> None:
    longer = SAID.answered("and", "so")
    assert len(longer) == 3
    assert longer.without_last() == SAID
    assert [one.message for one in longer.without_first(2).exchanges] == ["and"]
    assert len(SAID) == 2


def test_a_file_holds_the_texts(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    SAID.write(path, target="one")
    assert Conversation.read(path) == SAID.as_text()
    assert SAID.as_text().exchanges[0].tokens == ()
    assert json.loads(path.read_text(encoding="utf-8"))["target"] == "one"
    SAID.without_last().write(path)  # a conversation may be replaced
    assert len(Conversation.read(path)) == 1


def test_another_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(InvalidArgument, match="holds no conversation: give another name"):
        SAID.write(path)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["no/such/folder.json", "a\0b", ""])
def test_a_place_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgument, match="give another"):
        SAID.write(f"{tmp_path}/{name}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"exchanges": 3}',
        '{"exchanges": [3]}',
        '{"exchanges": [{"message": "a"}]}',
        '{"exchanges": [{"message": 1, "answer": "b"}]}',
        '{"system": 1, "exchanges": []}',
        "[" * 100_000,
    ],
)
def test_a_file_that_holds_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "talk.json"
    path.write_text(text)
    with pytest.raises(InvalidArgument, match="holds no conversation"):
        Conversation.read(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no such file"):
        Conversation.read(tmp_path / "none.json")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        Conversation.read(tmp_path)
    later = tmp_path / "later.json"
    later.write_text('{"format": 2, "exchanges": []}')
    with pytest.raises(InvalidArgument, match="newer than 1"):
        Conversation.read(later)
    other = tmp_path / "other.json"
    for content, why in ((b"\xff\xfe\x00", "cannot be read as text"), (b"{", "no conversation")):
        other.write_bytes(content)
        with pytest.raises(InvalidArgument, match=why):
            Conversation.read(other)
