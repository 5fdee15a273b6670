import re

import pytest
from commandline import Run, Terminal

from outpace.bench.runner import _Run
from outpace.cli import main
from outpace.cli.bench import DEFAULT_METHODS
from outpace.decoder import Stream


def test_texts_table_and_verdict(run: Run) -> None:
    ran = run("demo", "--max-new-tokens", 8)
    assert ran.code == 0
    assert ran.out.startswith("zoo:target (12.6 M parameters) writes, zoo:")
    assert [f"[{kind}]" in ran.out for kind in ("prose", "code", "dialogue")] == [True] * 3
    assert ran.out.count("8 tokens in ") == 3
    assert ran.out.count("exact: the same text") == 3
    for name in DEFAULT_METHODS:
        assert len(re.findall(rf"^ {name} .* \(\d\.\d\d–\d\.\d\d\)", ran.out, re.M)) == 1
    assert re.search(r"^The fastest in this run was .+ at \d\.\d\d × ", ran.out, re.M)
    assert "BUGS" not in ran.out
    assert "Next: " in ran.out
    assert "\x1b" not in ran.out


def test_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outpace.cli.demo._measure", lambda *_: 0)  # tables have tests of their own
    texts = []
    for words in ([], ["--no-color"]):
        out = Terminal()
        monkeypatch.setattr("sys.stdout", out)
        assert main(["demo", "--max-new-tokens", "8", *words]) == 0
        texts.append(out.getvalue())
    assert "\x1b[32maccepted\x1b[0m" in texts[0]
    assert "\x1b[3" not in texts[1]
    assert "accepted\x1b" not in texts[1]


def test_interrupt_while_writing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def upset(stream: Stream) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stream, "__next__", upset)
    ran = run("demo")
    assert ran.code == 130
    assert ran.out.endswith("and\n")
    assert ran.err == "outpace: interrupted\n"


def test_interrupt_while_measuring(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    own = _Run.measure

    def upset(turn: _Run) -> None:
        told = []

        def stop(what: str, *, more: int = 0) -> None:
            told.append(what)
            if len(told) == len(DEFAULT_METHODS) + 3:
                raise KeyboardInterrupt

        turn.notify = stop
        own(turn)

    monkeypatch.setattr(_Run, "measure", upset)
    ran = run("demo", "--max-new-tokens", 8)
    assert ran.code == 130
    assert "warning: 1 of 9 texts a method are done: interrupted" in ran.out


def test_no_tokens_to_write(run: Run) -> None:
    ran = run("demo", "--max-new-tokens", 0)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err == "outpace: 0 new tokens to make: give 1 or more\n"


def test_more_tokens_than_the_models_take(run: Run) -> None:
    ran = run("demo", "--max-new-tokens", 3000)
    assert ran.code == 2
    assert "3000 new tokens leave no room for a prompt in a context of 2048" in ran.err
