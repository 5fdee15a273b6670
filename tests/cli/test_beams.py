import re
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import PROMPT, Piped, Ran, Run, Terminal

from outpace import Decoder
from outpace.beam import BeamOutput, BeamSearch, BeamStats, BeamStep, BeamTree, Hypothesis
from outpace.cli import main
from outpace.cli.beam_tree import DROPPED, TEXTS, draw
from outpace.cli.screen import Screen
from outpace.models.tiny import byte_tokenizer

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture(scope="module")
def decoder(folder: Path) -> Decoder:
    return Decoder.from_pretrained(folder, drafter="none", dtype="float32")


def interrupt_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Press Ctrl-C after this many steps."""
    following = BeamSearch.__next__
    seen: list[BeamStep] = []

    def upset(search: BeamSearch) -> BeamStep:
        if len(seen) == steps:
            raise KeyboardInterrupt
        seen.append(following(search))
        return seen[-1]

    monkeypatch.setattr(BeamSearch, "__next__", upset)


def test_the_text_is_the_best_one(generate: Run, decoder: Decoder) -> None:
    own = decoder.beam_search(PROMPT, num_beams=3, max_new_tokens=24)
    ran = generate(PROMPT, "--beams", 3)
    assert (ran.code, ran.out) == (0, own.text + "\n")
    assert "3 beams" in ran.err
    assert f"score {own.score:.3f}" in ran.err
    assert own.text != decoder.generate(PROMPT, max_new_tokens=24).text


def test_one_beam_is_greedy(generate: Run) -> None:
    assert generate(PROMPT, "--beams", 1).out == generate(PROMPT).out


def test_every_option_reaches_the_search(generate: Run, decoder: Decoder, folder: Path) -> None:
    record = generate(
        PROMPT, "--json", "--beams", 3, "--length-penalty", 0.5, "--early-stopping", "never",
        "--beam-penalty", "gnmt", "--top-k", 3, "--repetition-penalty", 1.1,
        "--no-repeat-ngram-size", 4, "--stop", "zz", "--ignore-eos",
    ).json  # fmt: skip
    settings = {
        "num_beams": 3,
        "length_penalty": 0.5,
        "early_stopping": "never",
        "penalty": "gnmt",
        "num_return_sequences": 3,
        "top_k": 3,
        "repetition_penalty": 1.1,
        "no_repeat_ngram_size": 4,
        "max_new_tokens": 24,
        "stop": ["zz"],
        "ignore_eos": True,
    }
    device = record["request"].pop("device")
    assert device == str(decoder.target.device)
    fixed = {"target": str(folder), "dtype": "float32", "prompt": PROMPT}
    assert record["request"] == {**fixed, **settings}
    own = decoder.beam_search(PROMPT, **settings)  # type: ignore[arg-type]
    assert record["beams"] == [one.as_dict() for one in own.hypotheses]
    assert record["tokens"] == own.tokens
    assert record["text"] == own.text


def test_json_fields(generate: Run) -> None:
    ran = generate(PROMPT, "--beams", 4, "--json", "--show-beams")
    record = ran.json
    assert ran.out.count("\n") == 1
    assert ran.err == ""
    assert set(record) == {
        "outpace", "request", "text", "tokens", "beams", "stats", "interrupted", "tree",
    }  # fmt: skip
    assert record["request"]["length_penalty"] == 1.0
    assert [one["score"] for one in record["beams"]] == sorted(
        (one["score"] for one in record["beams"]), reverse=True
    )
    assert len(record["beams"]) == 4
    tree = record["tree"]
    assert len(tree["tokens"]) == len(tree["parents"]) == len(tree["log_probs"])
    assert {one["node"] for one in record["beams"]} == {node for node, _ in tree["finished"]}
    assert record["stats"]["steps"] == 24
    assert not record["interrupted"]
    assert "tree" not in generate(PROMPT, "--beams", 4, "--json").json


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--show-beams"], ["--show-beams without --beams", "give --beams N too"]),
        (["--length-penalty", 2], ["--length-penalty without --beams"]),
        (["--early-stopping", "true"], ["--early-stopping without --beams"]),
        (["--beam-penalty", "gnmt"], ["--beam-penalty without --beams"]),
        (["--beams", 2, "--temperature", 0.7], ["--beams with --temperature 0.7", "leave one"]),
        (["--beams", 2, "--top-p", 0.9], ["--beams with --top-p 0.9"]),
        (["--beams", 2, "--drafter", "none"], ["--beams with --drafter none"]),
        (["--beams", 2, "--draft-length", 3], ["--beams with --draft-length 3"]),
        (["--beams", 2, "--verifier", "rejection"], ["--beams with --verifier rejection"]),
        (["--beams", 0], ["0 beams", "from 1 to 64"]),
        (["--beams", 65], ["65 beams", "from 1 to 64"]),
        (["--beams", "many"], ["'many' is no whole number"]),
        (["--beams", 2, "--length-penalty", "nan"], ["length penalty nan", "from -20 to 20"]),
        (["--beams", 2, "--length-penalty", "-inf"], ["length penalty -inf"]),
        (["--beams", 2, "--early-stopping", "soon"], ["'soon'", "true, false, never"]),
        (["--beams", 2, "--beam-penalty", "cubic"], ["'cubic'", "power, gnmt"]),
        (["--beams", 2, "--max-new-tokens", 0], ["0 new tokens"]),
    ],
)
def test_refusals(generate: Run, words: list[object], said: list[str]) -> None:
    ran = generate(PROMPT, *words)
    assert (ran.code, ran.out) == (2, ""), ran
    assert ran.err.startswith("outpace: ")
    assert ran.err.count("\n") == 1
    for part in said:
        assert part in ran.err


def test_refusals_come_before_the_model_is_loaded(run: Run) -> None:
    ran = run("generate", PROMPT, "--target", "/nowhere/model", "--beams", 99)
    assert "99 beams" in ran.err


@pytest.mark.parametrize("steps", [0, 5])
def test_an_interrupt_keeps_the_best_text_so_far(
    generate: Run, decoder: Decoder, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    search = decoder.beams(PROMPT, num_beams=3, max_new_tokens=24)
    for _ in range(steps):
        next(search)
    expected = search.output
    interrupt_after(monkeypatch, steps)
    ran = generate(PROMPT, "--beams", 3, "--show-beams")
    assert ran.code == 130
    assert ran.out.startswith(expected.text + "\n")
    assert ("unfinished]" in ran.out) == (steps > 0)
    assert ran.err.rstrip().endswith("interrupted")
    monkeypatch.undo()
    interrupt_after(monkeypatch, steps)
    ran = generate(PROMPT, "--beams", 3, "--json")
    assert ran.code == 130
    assert ran.json["interrupted"]
    assert ran.json["tokens"] == expected.tokens


@pytest.mark.parametrize("color", [True, False])
def test_a_terminal_sees_the_winner(
    folder: Path, monkeypatch: pytest.MonkeyPatch, color: bool
) -> None:
    out, notes = Terminal(), Terminal()
    words = ["generate", PROMPT, "--target", str(folder), "--dtype", "float32", "--beams", "3"]
    words += [
        "--show-beams",
        "--ignore-eos",
        "--max-new-tokens",
        "12",
        *([] if color else ["--no-color"]),
    ]
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", notes)
        assert main(words) == 0
    shown = out.getvalue()
    assert ("\x1b[1;32m" in shown) == color
    assert len(re.findall(r"\[best -\d+\.\d+, length\]", ESCAPES.sub("", shown))) == 1
    assert "beams growing" in notes.getvalue() or not color


# the drawing


def output_of(words: str, log_probs: dict[str, float], texts: list[str]) -> BeamOutput:
    """A search over bytes whose tree has these words as branches."""
    tree = BeamTree([ord(">")])
    places = {"": 0}
    for word in words.split():
        for end in range(1, len(word) + 1):
            if word[:end] not in places:
                node = tree.add(places[word[: end - 1]], ord(word[end - 1]), -float(end))
                places[word[:end]] = node
    found = [
        Hypothesis(text, [*text.encode()], log_probs[text], 0.0, "eos", places[text])
        for text in texts
    ]
    tree.finished = {places[text]: score for text, score in log_probs.items()}
    return BeamOutput(found, BeamStats(over=True), tree)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The lines of a drawing."""

    class Bytes:
        def decode(self, tokens: list[int], **_: object) -> str:
            return bytes(tokens).decode(errors="replace")

    def lines(output: BeamOutput, prompt: str = ">") -> list[str]:
        file = Piped()
        console = Screen(file).console
        console.width = 100
        console.print(draw(output, Bytes(), prompt), soft_wrap=False)
        return [line.rstrip() for line in file.getvalue().splitlines()]

    return lines


def test_chains_are_joined_and_ends_marked(drawn: Callable[..., list[str]]) -> None:
    scores = {"abcd": -0.5, "abxy": -1.25, "abx": -3.0, "q": -4.0}
    output = output_of("abcd abxy abx q rs", scores, ["abcd", "abxy", "abx"])
    assert drawn(output) == [
        ">",
        "├── ab",
        "│   ├── cd  [best -0.500, eos]",
        "│   └── x  [-3.000, eos]",
        "│       └── y  [-1.250, eos]",
        "├── q  [-4.000, dropped]",
        "└── rs  [dropped]",
    ]


def test_a_line_end_cannot_break_the_drawing(drawn: Callable[..., list[str]]) -> None:
    output = output_of("ab", {"ab": -1.0}, ["ab"])
    output.tree.tokens[1:] = [ord("\n"), 0x1B]
    assert drawn(output, "x" * 90 + "\t") == [
        "…" + "x" * 39 + "\\t",
        "└── \\n␛  [best -1.000, eos]",
    ]


def test_only_so_much_is_drawn(drawn: Callable[..., list[str]]) -> None:
    letters = [chr(code) for code in range(ord("A"), ord("z"))]
    texts = [f"{letter}0" for letter in letters[: TEXTS + 3]]
    dropped = [f"{letter}{'1' * length}" for length, letter in enumerate(letters[TEXTS + 3 :])]
    scores = {text: -1.0 - place for place, text in enumerate(texts)}
    lines = drawn(output_of(" ".join([*texts, *dropped]), scores, texts))
    assert len(lines) == 1 + TEXTS + DROPPED + 2
    assert lines[-2].endswith("(3 more texts)")
    assert lines[-1].endswith(f"({len(dropped) - DROPPED} more dropped)")
    assert dropped[-1] in "".join(lines)  # the longest are drawn
    assert dropped[0] + "  [" not in "".join(lines)


def test_characters_of_several_tokens_are_whole(folder: Path) -> None:
    tokenizer = byte_tokenizer()
    ids = [tokenizer(text)["input_ids"] for text in (">", "é", "è")]
    first, second = ids[1], ids[2]
    assert first[0] == second[0]
    tree = BeamTree(list(ids[0]))
    above = tree.add(0, first[0], -1.0)
    nodes = [tree.add(above, tokens[1], -2.0) for tokens in (first, second)]
    texts = [Hypothesis("", [], -1.0, -1.0, "eos", node) for node in nodes]
    file = Piped()
    Screen(file).console.print(draw(BeamOutput(texts, BeamStats(), tree), tokenizer, ">"))
    assert "é  [best" in file.getvalue()
    assert "è  [-1.000" in file.getvalue()


def test_long_texts_are_drawn(generate: Run) -> None:
    ran: Ran = generate(PROMPT, "--beams", 2, "--show-beams", "--max-new-tokens", 200)
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 200
