"""``outpace chat`` from a pipe: answers on standard output, all else on standard error."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import Piped, Ran, Run, save

from outpace.chat import Conversation
from outpace.recipe import Recipe

Talk = Callable[..., Ran]


@pytest.fixture
def talk(run: Run, folder: Path, similar: Path, monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Send lines to a chat of the target and the drafter."""

    def talked(*lines: str, words: tuple[object, ...] = ()) -> Ran:
        monkeypatch.setattr("sys.stdin", Piped("".join(f"{line}\n" for line in lines)))
        given = ("--target", folder, "--drafter", similar, "--dtype", "float32")
        fixed = ("--runtime", "eager", "--draft-length", 3, "--max-new-tokens", 12)
        return run("chat", *given, *fixed, *words)

    return talked


def test_answers_alone_are_on_standard_output(talk: Talk, generate: Run) -> None:
    ran = talk("the cat and the dog", "")
    assert ran.code == 0
    expected = generate("the cat and the dog", "--drafter", "none", "--max-new-tokens", 12)
    assert ran.out == expected.out
    assert "speculative · " in ran.err
    assert "\x1b" not in ran.out + ran.err


def test_a_line_goes_on_after_a_backslash(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    talk("the cat\\", "and the dog", f"/save {file}")
    assert Conversation.read(file).exchanges[0].message == "the cat\nand the dog"


def test_several_methods(talk: Talk) -> None:
    ran = talk("the cat", words=("--method", "target", "--method", "ngram"))
    heads = [line for line in ran.out.split("\n") if line.startswith("[")]
    assert heads == ["[target]", "[ngram]"]
    assert " × target" in ran.err


def test_side_by_side_and_sums(talk: Talk) -> None:
    ran = talk("/target on", "the cat and the cat", "/compare", "/stats", "/help")
    assert ran.code == 0
    assert "× target" in ran.out
    assert "messages  tokens" in ran.out
    assert "/set_ngramstorage basic|onelevel N" in ran.out
    alone = talk("/compare on", "the cat")
    assert "/target on answers with plain decoding too" in alone.err


def test_what_is_refused_is_told_and_the_rest_is_done(talk: Talk) -> None:
    ran = talk("/hlep", "the cat", "/undo now", "/undo", "/more", "/retry", "/edit", "/stats")
    assert ran.code == 2
    told = [line for line in ran.err.splitlines() if line.startswith("outpace: ")]
    assert told == [
        "outpace: unknown command /hlep (did you mean /help?): /help lists them; begin with // to "
        "say /hlep",
        "outpace: /undo: there is nothing to take back yet",
        "outpace: there is no answer to go on with: give a message",
        "outpace: /retry: there is no message to answer again yet",
        "outpace: /edit: there is no message to edit yet",
    ]
    assert "took back the last message" in ran.err


def test_debug_without_colours_has_marks(talk: Talk) -> None:
    ran = talk("/debug on", "the cat and the dog and the cat and the dog", "/tree on", "so")
    assert "[-rejected-]" in ran.out
    assert "{+" in ran.out.partition("target's+}")[2]
    assert "round 1: " in ran.out


def test_quit_leaves_the_rest(talk: Talk) -> None:
    assert talk("/quit", "the cat").out == ""


def test_a_saved_conversation_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "talk.json"
    given = ("--target", "zoo:small", "--drafter", "ngram", "--dtype", "float32")
    fixed = ("--runtime", "eager", "--max-new-tokens", 12)
    monkeypatch.setattr("sys.stdin", Piped(f"The cat\n and\n/save {file}\n so\n"))
    whole = run("chat", *given, *fixed, "--system", "It was.")
    monkeypatch.setattr("sys.stdin", Piped(" so\n"))
    part = run("chat", *given, *fixed, "--load", file)
    assert part.code == 0
    assert Conversation.read(file).system == "It was."
    assert whole.out.endswith(part.out)


def test_a_recipe(run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "recipe.toml"
    Recipe(target=str(folder), drafter="suffix", dtype="float32", runtime="eager").write(file)
    monkeypatch.setattr("sys.stdin", Piped("/drafter on\n/gamma\nthe cat\n"))
    ran = run("chat", "--recipe", file, "--draft-length", 2, "--max-new-tokens", 4)
    assert "'suffix' has no model that could write by itself" in ran.err
    assert "draft tokens a round: 2" in ran.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "targt"), "unknown method 'targt' (did you mean 'target'?)"),
        (("--temperature", "-1"), "temperature -1.0: give 0 (greedy) or more"),
        (("--max-new-tokens", "0"), "0 new tokens to make: give 1 or more"),
        (("--load", "nowhere"), "nowhere: no such file"),
        (("--recipe", "nowhere"), "nowhere: no such file"),
        (("--template",), "has no chat template"),
        (("--drafter", "sufix"), "unknown drafter 'sufix' (did you mean 'suffix'?)"),
        (("--tree", "fixed"), "draft length 3 beside a tree"),
    ],
)
def test_options_that_cannot_be(talk: Talk, words: tuple[str, ...], message: str) -> None:
    ran = talk("the cat", words=words)
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert ran.out == ""


def test_bytes_that_are_no_text(folder: Path, similar: Path) -> None:
    command = [sys.executable, "-m", "outpace", "chat", "--target", str(folder)]
    command += ["--drafter", str(similar), "--dtype", "float32", "--runtime", "eager"]
    ran = subprocess.run(
        command, input=b"the \xff cat\nthe cat\n", capture_output=True, timeout=120
    )
    assert ran.returncode == 2
    assert b"outpace: the line has bytes that are no text: give UTF-8\n" in ran.stderr
    assert b"speculative" in ran.stderr


def test_a_template(
    run: Run, tmp_path: Path, similar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outpace.models.tiny import tiny_model

    model = tiny_model()
    model.tokenizer.chat_template = (  # type: ignore[union-attr]
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    target = save(model, tmp_path / "target")
    given = ("--target", target, "--drafter", similar, "--dtype", "float32", "--runtime", "eager")
    monkeypatch.setattr("sys.stdin", Piped("hello\n/chat off\nhello\n/chat\n"))
    ran = run("chat", *given, "--max-new-tokens", 4)
    assert ran.code == 0
    length = len("user: hello\nassistant:")
    assert f"prompt {length}, {length} of it new" in ran.err
    assert "the chat template: off" in ran.err
    assert "the chat template: on" in ran.err
    file = tmp_path / "talk.json"
    monkeypatch.setattr("sys.stdin", Piped(f"hello\n/save {file}\n"))
    run("chat", *given, "--max-new-tokens", 4, "--system", "be brief")
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["system"] == "be brief"
    assert record["target"] == str(target)
