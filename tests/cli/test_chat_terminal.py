"""``outpace chat`` in a pseudo-terminal, as somebody sees it who types."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pexpect", reason="needs a pseudo-terminal")
from window import CTRL_C, CTRL_D, CTRL_U, ENTER, ESCAPE, PASTE, TAB, Window

from outpace.recipe import Recipe


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def words(folder: Path, similar: Path) -> list[object]:
    given = ["chat", "--target", folder, "--drafter", similar, "--dtype", "float32"]
    return [*given, "--runtime", "eager", "--draft-length", 3, "--max-new-tokens", 12]


@pytest.fixture(scope="module")
def window(words: list[object], cache: Path) -> Iterator[Window]:
    """One window for all commands: each test leaves it at the prompt, whatever is set."""
    with Window(*words, OUTPACE_CACHE=str(cache)) as made:
        made.ready()
        assert "/help lists the commands" in made.text
        yield made


@pytest.fixture
def fresh(window: Window) -> Window:
    """The same, its conversation and settings as in the beginning."""
    for line in ("/clear", "/speculative on", "/target off", "/ngram off", "/drafter off"):
        window.say(line)
    for line in ("/debug off", "/compare off", "/temperature 0", "/gamma 3", "/tree chain"):
        window.say(line)
    window.say("/gamma 3")
    window.say("/length 12", "at most: 12")
    return window


def test_an_answer_and_its_figures(fresh: Window) -> None:
    fresh.say("the cat and the dog", "end: ")
    for words in ("tokens/s", "first after", "draft tokens (", "tokens a forward", "exact: the"):
        assert words in fresh.folded
    fresh.until(lambda: "speculative · greedy · " in fresh.text)  # below the line


def test_each_method(fresh: Window) -> None:
    fresh.say("/target on", "who answers: target, speculative")
    fresh.say("/ngram", "who answers: target, speculative, ngram")
    fresh.say("/drafter", "who answers: target, speculative, ngram, drafter")
    fresh.say("the cat and the cat", lambda: fresh.written.count("end: ") == 4)
    for name in ("target", "speculative", "ngram", "drafter"):
        assert f"[{name}]" in fresh.written
    assert fresh.written.count(" × target") == 3
    fresh.say("/speculative off", "who answers: target, ngram, drafter")
    fresh.say("/drafter off", "who answers: target, ngram")
    fresh.say("/target off", "who answers: ngram")
    fresh.say("/ngram off", "nobody else answers")
    fresh.say("/speculative on", "who answers: speculative, ngram")


def test_drafters_trees_and_lengths(
    fresh: Window, folder: Path, similar: Path, tmp_path: Path
) -> None:
    fresh.say("/drafter suffix", "drafter: suffix")
    fresh.say("/drafter sufix", "did you mean 'suffix'?")
    fresh.say("/drafter on", "has no model that could write by itself")
    fresh.say(f"/drafter {similar}", f"drafter: {similar}"[:60])
    fresh.say("/gamma 5", "draft tokens a round: 5")
    fresh.say("/gamma adaptive", "draft tokens a round: adaptive")
    fresh.say("/gamma -1", "outpace: ")
    fresh.say("/gamma", "draft tokens a round: adaptive")
    fresh.say("/tree best_first", "the draft model drafts: best_first")
    fresh.say("/tree oak", "outpace: unknown")
    fresh.say("/tree on", "trees of the rounds: on · debug: on")
    fresh.say("the cat", "end: ")
    assert "── " in fresh.written
    assert "round 1: " in fresh.written
    fresh.say("/tree off", "trees of the rounds: off")
    fresh.say("/recipe", "give the file of one")
    fresh.say("/recipe nowhere.toml", "no such file")
    file = tmp_path / "recipe.toml"
    Recipe(target="zoo:small", drafter="ngram", dtype="float32", runtime="eager").write(file)
    fresh.say(f"/recipe {file}", "target: zoo:small · drafter: ngram")
    fresh.say("Once upon a time", "end: ")
    back = Recipe(target=str(folder), drafter=str(similar), dtype="float32", runtime="eager")
    back.write(file)
    fresh.say(f"/recipe {file}", " · by ")


def test_sampling(fresh: Window) -> None:
    fresh.say("/temperature 0.7", "temperature 0.7")
    fresh.say("/processor nucleus 0.8 0.9", "temperature 0.8, top_p 0.9")
    fresh.say("/processor", "temperature 0.8, top_p 0.9")
    fresh.say("/processor nucleus 0.8", "top_p is missing: give /processor nucleus TEMPERATURE")
    fresh.say("/processor nucleos 0.8 0.9", "did you mean 'nucleus'?")
    fresh.say("/seed 7", "seed: 7")
    fresh.say("/seed x", "give a whole number")
    fresh.say("/seed 42", "seed: 42")
    fresh.say("/length 5", "at most: 5")
    fresh.say("/length 0", "give 1 or more")
    fresh.say("the cat", "5 tokens in")
    fresh.say("/processor greedy", "tokens are chosen: greedy")


def test_ngram_storage(fresh: Window) -> None:
    fresh.say("/ngram on", "ngram")
    fresh.say("/top_k_filler 1", "learns: 1")
    fresh.say("/top_k_filler -1", "-1 fillers: give 0")
    fresh.say("/set_ngramstorage onelevel 4", "onelevel, n = 4")
    fresh.say("/set_ngramstorage twolevel 4", "give basic N")
    fresh.say("/set_ngramstorage basic 3", "basic, n = 3")
    fresh.say("/reset_in_between", "with every message: off")
    fresh.say("/reset_in_between on", "with every message: on")
    fresh.say("/cache off", "between messages: off")
    fresh.say("the cat", "7 of it new")
    fresh.say("/cache", "between messages: on")


def test_the_conversation(fresh: Window, tmp_path: Path) -> None:
    fresh.say("the cat", "prompt 7, 7 of it new")
    fresh.say(" and", "new")
    fresh.say("/undo", "took back the last message · 1 message")
    fresh.say("/more", "end: ")
    fresh.say("/undo", "took back going on")
    file = tmp_path / "talk.json"
    fresh.say(f"/save {file}", "saved in")
    assert len(json.loads(file.read_text(encoding="utf-8"))["exchanges"]) == 1
    fresh.say("/clear", "forgot 1 message: /undo brings it back")
    fresh.say("/undo", "took back the clearing · 1 message")
    fresh.say("/forget", "forgot the oldest 1 · 0 messages")
    fresh.say("/forget 3", "there are 0 messages")
    fresh.say(f"/load {file}", "· 1 message")
    fresh.say("/retry", "end: ")
    fresh.say("/edit the cow", "end: ")
    fresh.begin("/edit")
    fresh.until(lambda: "> the cow" in fresh.text)
    fresh.type(CTRL_U)
    fresh.ready()
    fresh.say("/system be brief", "system: be brief")
    fresh.say("/system off", "system: nothing")
    fresh.say("/chat on", "has no chat template")
    fresh.say("/load nowhere", "no such file")
    fresh.say("/save", "give the name of a file")


def test_what_is_shown(fresh: Window) -> None:
    fresh.say("/stats off", "after each answer: off")
    said = fresh.say("the cat and the cat and the")
    assert "tokens/s" not in said
    fresh.say("/stats on", "after each answer: on")
    fresh.say("/compare", "one answer alone")
    fresh.say("/compare on", "side by side: on")
    fresh.say("/target on", "target")
    fresh.say(" cat", lambda: "end: " in fresh.text)
    assert "target" in fresh.text
    assert "× target" in fresh.text
    fresh.say("/compare off", "side by side: off")
    fresh.say("/compare", lambda: "× target" in fresh.text)
    fresh.say("/stats", "keys and values of the sessions")
    fresh.say("/help", "Ctrl-D leaves.")
    for name in ("/quit", "/top_k_filler N", "/load FILE", "/processor NAME ARGS"):
        assert name in fresh.written
    fresh.say("/help gamma", "/gamma [N|gate")
    fresh.say("/hlep", "unknown command /hlep (did you mean /help?)")
    fresh.say("//etc is a folder", "end: ")


def test_debug_colours(fresh: Window) -> None:
    fresh.say("/clear")
    fresh.say("/debug on", "debug: on")
    assert fresh.colours("accepted") == {"green"}
    assert fresh.colours("rejected") == {"red"}
    assert fresh.colours("target's") == {"brightblue"}
    fresh.say("the cat and the dog and the cat", "end: ")
    cells = [cell for row in fresh.screen.buffer.values() for cell in row.values()]
    assert {"green", "brightblue"} <= {cell.fg for cell in cells}


def test_tab_completes(fresh: Window) -> None:
    fresh.type("/rec" + TAB)
    fresh.until(lambda: "> /recipe" in fresh.text)
    fresh.type(CTRL_U + "/set_ngramstorage one" + TAB)
    fresh.until(lambda: "onelevel" in fresh.text)
    fresh.type(CTRL_U + "/drafter rec" + TAB)
    fresh.until(lambda: "recycling" in fresh.text)
    fresh.type(CTRL_U)
    fresh.ready()


def test_lines(fresh: Window) -> None:
    fresh.type("one\\" + ENTER)
    fresh.type("two" + ESCAPE + ENTER)
    fresh.type("three")
    fresh.until(lambda: "> one\n  two\n  three" in fresh.text)
    fresh.type(ENTER)
    fresh.until("prompt 13, ")
    fresh.ready()


def test_a_paste_of_ten_thousand_characters(fresh: Window, tmp_path: Path) -> None:
    text = "\n".join(f"line {number} of a text that is long" for number in range(400))[:10_000]
    fresh.type(PASTE[0] + text + PASTE[1])
    fresh.type(ENTER)
    fresh.until("has 10,000 tokens with this, ")  # one token a byte, and the context is 512
    fresh.until("/forget 1 drops the oldest")
    fresh.clear()  # the message is offered again
    fresh.say("the cat", "end: ")


def test_bytes_that_are_no_text(fresh: Window) -> None:
    os.write(fresh.process.child_fd, b"the \xff\xfe cat")
    fresh.until(lambda: "cat" in fresh.text)
    fresh.type(ENTER)
    fresh.until("bytes that are no text")
    fresh.ready()
    fresh.say("the cat", "end: ")


def test_another_size(fresh: Window) -> None:
    fresh.type("the cat and")
    fresh.until(lambda: "> the cat and" in fresh.text)
    fresh.resize(40, 15)
    fresh.until(lambda: "> the cat and" in fresh.text)
    fresh.type(ENTER)
    fresh.until("end: ")
    fresh.ready()
    fresh.say("/target on", "target")
    fresh.say("/ngram on", "ngram")
    fresh.say("/drafter on", "drafter")
    fresh.say(" so", lambda: fresh.written.count("end: ") == 4)
    fresh.say("/compare", "end: ")
    fresh.resize(110, 36)


def test_ctrl_c_stops_the_answer_alone(cache: Path) -> None:
    given = ["chat", "--dtype", "float32", "--runtime", "eager", "--max-new-tokens", 1900]
    with Window(*given, OUTPACE_CACHE=str(cache)) as window:
        window.begin("It was late")
        # the line drawn for the last time is not an answer yet: keys are still read one by one then
        window.until(lambda: len(window.written) > 600)
        window.type(CTRL_C)
        window.until("interrupted")
        window.ready()
        window.say("/length 8", "at most: 8")
        window.say(" and then", "end: length")
        assert ", 4 of it new" in window.written or ", 3 of it new" in window.written
        window.type("half a line")
        window.until(lambda: "half a line" in window.text)
        window.type(CTRL_C)
        window.until("Ctrl-D or /quit leaves")
        window.ready()
        window.type(CTRL_D)
        assert window.left() == 0


def test_what_was_typed_is_there_the_next_time(words: list[object], tmp_path: Path) -> None:
    with Window(*words, OUTPACE_CACHE=str(tmp_path)) as window:
        window.say("remember me", "end: ")
        window.begin("/quit")
        assert window.left() == 0
    history = tmp_path / "chat-history"
    assert "+remember me" in history.read_text(encoding="utf-8")
    assert history.stat().st_mode & 0o077 == 0
    with Window(*words, OUTPACE_CACHE=str(tmp_path)) as window:
        window.ready()
        window.type("\x1b[A\x1b[A")
        window.until(lambda: "> remember me" in window.text)
        window.type(CTRL_U)
        window.ready()
        window.type(CTRL_D)
        assert window.left() == 0
    with Window(*words, "--no-history", OUTPACE_CACHE=str(tmp_path)) as window:
        window.say("forget me", "end: ")
        window.type(CTRL_D)
        assert window.left() == 0
    assert "forget me" not in history.read_text(encoding="utf-8")


def test_no_colours(words: list[object], tmp_path: Path) -> None:
    with Window(*words, OUTPACE_CACHE=str(tmp_path), NO_COLOR="1") as window:
        window.say("/debug on", "accepted [-rejected-] {+target's+}")
        window.say("the cat and the dog and the cat", "end: ")
        cells = [cell for row in window.screen.buffer.values() for cell in row.values()]
        assert {cell.fg for cell in cells} == {"default"}
        window.say("/temperature 1", "temperature 1")
        window.say("the dog", lambda: "{+" in window.written and "end: " in window.written)
