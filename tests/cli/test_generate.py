import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import PROMPT, Piped, Ran, Run, Terminal

from outpace import Decoder
from outpace.cli import main, screen
from outpace.cli.text import visible
from outpace.decoder import Stream
from outpace.types import Round

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
GREEN, YELLOW, CYAN = "\x1b[32m", "\x1b[33m", "\x1b[1;36m"


@pytest.fixture(scope="module")
def decoder(folder: Path) -> Decoder:
    return Decoder.from_pretrained(folder, drafter="none", dtype="float32")


def on_terminal(
    monkeypatch: pytest.MonkeyPatch, *words: object, err: bool = True
) -> tuple[int, str, str]:
    """Run a command on a terminal; ``err`` says whether standard error is one too."""
    out, notes = Terminal(), Terminal() if err else Piped()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", notes)
        code = main([str(word) for word in words])
    return code, out.getvalue(), notes.getvalue()


def command(folder: Path, *words: object) -> list[object]:
    return ["generate", PROMPT, "--target", folder, "--dtype", "float32", *words]


def interrupt_after(monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
    """Press Ctrl-C after this many rounds."""
    following = Stream.__next__
    seen: list[Round] = []

    def upset(stream: Stream) -> Round:
        if len(seen) == rounds:
            raise KeyboardInterrupt
        seen.append(following(stream))
        return seen[-1]

    monkeypatch.setattr(Stream, "__next__", upset)


def test_text_is_the_decoders_own(generate: Run, decoder: Decoder) -> None:
    own = decoder.generate(PROMPT, max_new_tokens=24)
    ran = generate(PROMPT)
    assert ran.code == 0
    assert ran.out == own.text + "\n"
    record = generate(PROMPT, "--json").json
    assert record["text"] == own.text
    assert record["tokens"] == own.tokens


def test_a_drafter_with_a_budget_of_its_own_gets_it(generate: Run) -> None:
    words = ("--json", "--show-trees", "--ignore-eos", "--drafter", "recycling")
    assert generate(PROMPT, *words).json["request"]["draft_length"] == "gate"
    record = generate(PROMPT, *words, "--draft-length", "fixed").json
    assert record["request"]["draft_length"] == "fixed"
    assert max(len(tree["tokens"]) for tree in record["trees"]) > 6
    record = generate(PROMPT, *words, "--draft-length", 2).json
    assert record["request"]["draft_length"] == "2"
    assert max(len(tree["tokens"]) for tree in record["trees"]) <= 3


def test_prompt_from_argument_file_or_standard_input(
    generate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = generate(PROMPT).out
    file = tmp_path / "prompt.txt"
    file.write_text(PROMPT, encoding="utf-8")
    assert generate("--file", file).out == expected
    file.write_text(PROMPT, encoding="utf-8-sig")  # with the mark that some editors write
    assert generate("--file", file).out == expected
    monkeypatch.setattr("sys.stdin", Piped(PROMPT))
    assert generate().out == expected


def test_json_fields(generate: Run, folder: Path) -> None:
    ran = generate(PROMPT, "--json", "--temperature", 0.7, "--seed", 3, "--stop", "zz")
    record = ran.json
    assert ran.out.count("\n") == 1
    assert ran.err == ""
    assert set(record) == {
        "outpace",
        "request",
        "text",
        "tokens",
        "emitted",
        "stats",
        "same_text",
        "interrupted",
    }
    assert record["request"] == {
        "target": str(folder),
        "drafter": "prompt-lookup",
        "tree": None,
        "draft_length": "gate",
        "dtype": "float32",
        "drafter_dtype": None,
        "device": "cpu",
        "runtime": "auto",
        "bitwise": False,
        "verifier": "coupled",
        "cache_policy": None,
        "drafter_cache_policy": None,
        "temperature": 0.7,
        "top_k": None,
        "top_p": None,
        "min_p": None,
        "typical_p": None,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "seed": 3,
        "max_new_tokens": 24,
        "stop": ["zz"],
        "ignore_eos": False,
        "prompt": PROMPT,
    } or record["request"]["device"].startswith("cuda")
    assert [piece["token"] for piece in record["emitted"]] == record["tokens"]
    assert "".join(piece["text"] for piece in record["emitted"]) == record["text"]
    assert record["stats"]["new_tokens"] == len(record["tokens"])
    assert record["same_text"] is True
    assert record["interrupted"] is False


def test_json_is_readable_where_the_output_is_not_unicode(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Narrow(Piped):
        encoding = "ascii"

    out = Narrow()
    monkeypatch.setattr("sys.stdout", out)
    assert main([str(word) for word in command(folder, "--json")]) == 0
    assert out.getvalue().isascii()
    assert json.loads(out.getvalue())["request"]["prompt"] == PROMPT


def test_every_option_reaches_the_decoder(
    generate: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    make, write = Decoder.from_pretrained, Decoder.stream

    def made(target: str, **parts: Any) -> Decoder:
        given.update(parts, target=target)
        return make(target, **parts)

    def written(self: Decoder, prompt: str, **settings: Any) -> Stream:
        given.update(settings, prompt=prompt)
        return write(self, prompt, **settings)

    monkeypatch.setattr(Decoder, "from_pretrained", made)
    monkeypatch.setattr(Decoder, "stream", written)
    sampling = {
        "temperature": 0.9,
        "top_k": 40,
        "top_p": 0.95,
        "min_p": 0.01,
        "typical_p": 0.98,
        "repetition_penalty": 1.1,
        "no_repeat_ngram_size": 9,
        "seed": 11,
        "max_new_tokens": 5,
    }
    parts = {"drafter": "ngram", "draft_length": "adaptive", "verifier": "coupled"}
    parts |= {"dtype": "float32", "drafter_dtype": "bfloat16", "device": "cpu"}
    parts |= {"runtime": "eager"}
    words = [
        word
        for name, value in {**sampling, **parts}.items()
        for word in (f"--{name.replace('_', '-')}", value)
    ]
    flags = ["--ignore-eos", "--bitwise"]
    ran = generate(PROMPT, *words, "--stop", "qq", "--stop", "xx", *flags)
    assert ran.code == 0
    expected = {**sampling, **parts, "tree": None, "stop": ["qq", "xx"]}
    expected |= {"ignore_eos": True, "bitwise": True}
    expected |= {"cache_policy": None, "drafter_cache_policy": None}
    assert given == {**expected, "prompt": PROMPT, "target": str(folder)}


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_drafters_write_the_same_text(
    generate: Run, folder: Path, similar: Path, temperature: float
) -> None:
    texts = {
        str(drafter): generate(PROMPT, "--temperature", temperature, "--drafter", drafter).out
        for drafter in ("none", "ngram", "prompt-lookup", folder, similar)
    }
    assert len(set(texts.values())) == 1, texts


def test_seeds_repeat(generate: Run) -> None:
    def written(seed: int) -> str:
        return generate(PROMPT, "--temperature", 1.0, "--seed", seed).out

    assert written(1) == written(1)
    assert written(1) != written(2)


def test_stop_cuts_the_text(generate: Run) -> None:
    text = generate(PROMPT, "--json").json["text"]
    string = text[8:10]
    ran = generate(PROMPT, "--stop", string)
    assert ran.out == text[: text.index(string)] + "\n"
    assert "end: stop" in ran.err


def test_ignore_eos_goes_on(generate: Run) -> None:
    # hot enough for a random model to end early with some seed
    hot = ("--temperature", 5.0, "--max-new-tokens", 100)
    seed = next(seed for seed in range(40) if "end: eos" in generate("a", *hot, "--seed", seed).err)
    longer = generate("a", *hot, "--seed", seed, "--ignore-eos", "--json").json
    assert longer["stats"]["new_tokens"] == 100


def test_rejection_verifier_promises_the_law(generate: Run) -> None:
    ran = generate(PROMPT, "--verifier", "rejection", "--temperature", 0.8)
    assert ran.code == 0
    assert "exact: the same law" in ran.err
    assert generate(PROMPT, "--verifier", "rejection", "--json").json["same_text"] is False


def test_summary_is_one_line_on_standard_error(generate: Run, similar: Path) -> None:
    ran = generate(PROMPT, "--drafter", similar, "--draft-length", 4)
    assert re.fullmatch(
        r"24 tokens in [\d.]+ s · [\d.]+ tokens/s · first after \d+ ms · "
        r"accepted \d+ of \d+ draft tokens \(\d+%\) · [\d.]+ tokens a forward · "
        r"exact: the same text · end: length\n",
        ran.err,
    )
    plain = generate(PROMPT, "--drafter", "none")
    assert "draft" not in plain.err
    assert plain.err.count("\n") == 1


def test_plain_when_piped(generate: Run) -> None:
    ran = generate(PROMPT)
    assert not ESCAPES.search(ran.out + ran.err)


@pytest.mark.parametrize("how", ["--no-color", "NO_COLOR", "TERM"])
def test_plain_on_a_terminal_when_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, generate: Run, how: str
) -> None:
    expected = visible(generate(PROMPT).out)
    words = command(folder, "--max-new-tokens", 24)
    if how == "--no-color":
        words.append(how)
    else:
        monkeypatch.setenv(how, {"NO_COLOR": "1", "TERM": "dumb"}[how])
    code, out, err = on_terminal(monkeypatch, *words, err=how != "--no-color")
    assert code == 0
    assert out == expected
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", err)
    assert "accepted  " not in err


def test_colours_tell_the_kinds(
    folder: Path, similar: Path, monkeypatch: pytest.MonkeyPatch, generate: Run
) -> None:
    words = ("--drafter", similar, "--draft-length", 3, "--max-new-tokens", 60, "--ignore-eos")
    emitted = generate(PROMPT, *words, "--json").json["emitted"]
    code, out, err = on_terminal(monkeypatch, *command(folder, *words))
    assert code == 0
    assert ESCAPES.sub("", out).replace(" ", "") == (
        visible("".join(piece["text"] for piece in emitted)).expandtabs().replace(" ", "") + "\n"
    )
    for kind, style in (("accepted", GREEN), ("recovered", YELLOW), ("bonus", CYAN)):
        texts = [visible(piece["text"]) for piece in emitted if piece["kind"] == kind]
        colored = re.findall(re.escape(style) + r"([^\x1b]*)\x1b\[0m", out)
        assert texts, kind
        assert "".join(colored).split() == "".join(texts).replace("\n", "").split(), kind
        assert f"{style}{kind}\x1b[0m" in err  # the legend
    assert err.rstrip().endswith("end: length")


def test_terminal_is_told_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    class Turn:
        text = "a\x1b[2Jb\rc\x07\td\x9be"
        pieces = (text,)
        kinds = ("accepted",)

    out = Terminal()
    screen.Screen(out, color=False).show(Turn())  # type: ignore[arg-type]
    assert out.getvalue() == "a␛[2Jbc␇\td\ufffde"
    colored = Terminal()
    screen.Screen(colored).show(Turn())  # type: ignore[arg-type]
    assert "\x1b[2J" not in colored.getvalue()
    piped = Piped()
    screen.Screen(piped).show(Turn())  # type: ignore[arg-type]
    assert piped.getvalue() == Turn.text


def test_sign_of_life_only_on_a_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, generate: Run
) -> None:
    _, out, err = on_terminal(monkeypatch, *command(folder, "--json", "--max-new-tokens", 2))
    assert f"loading {folder}" in re.sub(r"\s*\n\s*", "", ESCAPES.sub("", err))
    assert json.loads(out)["tokens"]
    assert "loading" not in generate(PROMPT).err


def test_interrupt_keeps_what_is_written(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = generate(PROMPT, "--drafter", "none", "--json").json
    with monkeypatch.context() as patch:
        interrupt_after(patch, 5)
        ran = generate(PROMPT, "--drafter", "none")
    assert ran.code == 130
    assert ran.out == "".join(piece["text"] for piece in whole["emitted"][:5]) + "\n"
    assert ran.err.startswith("5 tokens in ")
    assert ran.err.endswith("· interrupted\n")
    assert ran.err.count("\n") == 1


def test_interrupt_with_json(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after(monkeypatch, 5)
    ran = generate(PROMPT, "--drafter", "none", "--json")
    assert ran.code == 130
    record = ran.json
    assert record["interrupted"] is True
    assert record["stats"]["end"] == "interrupted"
    assert len(record["tokens"]) == len(record["emitted"]) == 5


def test_interrupt_before_the_first_token(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after(monkeypatch, 0)
    ran = generate(PROMPT)
    assert ran.code == 130
    assert ran.out == "\n"
    assert ran.err == "0 tokens · interrupted\n"


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_interrupt_while_loading(
    generate: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    def upset(*_: Any, **__: Any) -> Iterator[None]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Decoder, "from_pretrained", upset)
    assert generate(PROMPT, *words) == Ran(130, "", "outpace: interrupted\n")


def test_interrupt_that_a_library_turns_into_an_error(
    generate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    def upset(*_: Any, **__: Any) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ModuleNotFoundError("Could not import module") from None

    # a shell starts its background jobs with the signal ignored, and tests may run in one
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr(Decoder, "from_pretrained", upset)
        assert generate(PROMPT) == Ran(130, "", "outpace: interrupted\n")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_failure_of_ours_shows_where_it_is(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Decoder, "from_pretrained", broken)
    with pytest.raises(ZeroDivisionError):
        generate(PROMPT)


def test_one_line_end_of_a_file_or_of_standard_input_is_dropped(
    generate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = generate(PROMPT).out
    for text, same in ((PROMPT + "\n", True), (PROMPT + "\r\n", True), (PROMPT + "\n\n", False)):
        (tmp_path / "prompt.txt").write_bytes(text.encode())
        assert (generate("--file", tmp_path / "prompt.txt").out == wanted) is same
        monkeypatch.setattr("sys.stdin", Piped(text))
        assert (generate().out == wanted) is same


def test_memory_that_does_not_suffice_is_one_line(
    generate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n20 GiB")

    monkeypatch.setattr("outpace.models.LanguageModel.forward", full)
    ran = generate(PROMPT)
    assert (ran.code, ran.out) == (2, "")
    assert "ran out of memory: give --device cpu" in ran.err
    assert len(ran.err.splitlines()) == 1
