"""``outpace ppl``: what it prints and writes, and what it refuses in one line."""

import json
import re
import shutil
from pathlib import Path

import pytest
from commandline import Piped, Ran, Run
from test_bad_input import check

from outpace.bench.perplexity import Scoring, perplexity
from outpace.models.tiny import tiny_model

TEXT = "the cat and the dog sat by the sea, and the cat said: naïve dogs do not read.\n"
SHORT = "a dog"


@pytest.fixture
def ppl(run: Run, folder: Path) -> Run:
    return lambda *words: run("ppl", "--target", folder, "--dtype", "float32", *words)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    rows = [TEXT, {"text": SHORT, "prompt": "not this"}, {"page": TEXT * 2}, "", {"prompt": SHORT}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(ran: Ran) -> dict[str, str]:
    assert ran.code == 0, ran
    return dict(re.split(r"  +", line, maxsplit=1) for line in ran.out.splitlines())


def test_one_text(ppl: Run, file: Path, folder: Path) -> None:
    ran = ppl(file)
    expected = perplexity(tiny_model(), [TEXT])
    assert ran.err == ""
    found = rows(ran)
    assert found.pop("model") == f"{folder} (float32, cpu)"
    assert found == {
        "convention": "tokens",
        "PPL": f"{expected.ppl:.6g}",
        "tokens scored": str(len(TEXT.encode()) - 1),
        "documents": "1",
        "window": "512",
        "stride": "256",
        "BOS": "none: the first token of a document is not scored",
        "words": "19",
        "word perplexity": f"{expected.word_perplexity:.6g}",
        "bytes": str(len(TEXT.encode())),
        "byte perplexity": f"{expected.byte_perplexity:.6g}",
        "bits per byte": f"{expected.bits_per_byte:.6g}",
    }


def test_several_texts_as_json(ppl: Run, lines: Path, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    ran = ppl(lines, file, "--window", 32, "--stride", 20, "--bos", "--json", out)
    found, record = rows(ran), json.loads(out.read_text())
    texts = [TEXT, SHORT, TEXT * 2, SHORT, TEXT]
    expected = perplexity(tiny_model(), texts, window=32, stride=20, bos=True)
    assert record["nats"] == pytest.approx(expected.nats)
    assert record["ppl"] == pytest.approx(expected.ppl)
    assert record["ppl_low"] < record["ppl"] < record["ppl_high"]
    assert record["tokens"] == sum(len(text.encode()) for text in texts)
    assert record["reading"]["window"] == 32
    assert record["precision"] == "float32"
    names = ["texts.jsonl:1", "texts.jsonl:2", "texts.jsonl:3", "texts.jsonl:5", "text.txt"]
    assert [one["name"] for one in record["documents"]] == names
    assert (found["documents"], found["stride"], found["BOS"]) == ("5", "20", "<end> (256)")
    assert re.fullmatch(r"[\d.]+ \(95 % [\d.]+–[\d.]+ over documents\)", found["PPL"])
    assert "windows (texts.jsonl:" in ran.err  # how far it is


def test_standard_input(ppl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Piped(TEXT))
    found = rows(ppl("-", "--convention", "lm-eval", "--window", 64))
    expected = perplexity(tiny_model(), [TEXT], convention="lm-eval", window=64)
    assert found["word perplexity"] == f"{expected.word_perplexity:.6g}"
    assert (found["convention"], found["stride"]) == ("lm-eval", "64")


def test_a_limit(ppl: Run, lines: Path) -> None:
    found = rows(ppl(lines, "--limit", 80))
    assert (found["tokens scored"], found["documents"]) == ("80", "2 of 4")


def test_a_published_set(ppl: Run, tmp_path: Path) -> None:
    folder = tmp_path / "wikitext-2-raw"
    folder.mkdir()
    text = " \n = One = \n \n a dog \n = = Part = = \n b \n = Two = \n \n c \n"
    (folder / "wiki.test.raw").write_text(text)
    found = rows(ppl("wikitext", "--data-dir", tmp_path))
    assert found["documents"] == "2"
    check(ppl("pg19", "--data-dir", tmp_path), "pg19_test_books is not there", "--data-dir")


def test_beyond_the_context(ppl: Run, file: Path) -> None:
    ran = ppl(file, "--window", 600)
    assert ran.code == 0
    assert "warning: a window of 600 tokens is beyond the context" in ran.out


def test_an_interrupt_keeps_what_is_done(
    ppl: Run, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(after: int) -> None:
        run = Scoring.run

        def stopped(scoring: Scoring, *_: object) -> object:
            count = 0

            def notify(what: str, *, more: int = 0) -> None:
                nonlocal count
                count += 1
                if count > after:
                    raise KeyboardInterrupt

            return run(scoring, notify)

        monkeypatch.setattr(Scoring, "run", stopped)

    out = tmp_path / "out.json"
    stopping(2)
    ran = ppl(lines, "--json", out)
    assert (ran.code, ran.err) == (130, "outpace: interrupted\n")
    assert "2 of 4" in ran.out
    assert json.loads(out.read_text())["interrupted"] is True
    monkeypatch.undo()
    stopping(0)
    ran = ppl(lines)
    assert (ran.code, ran.out, ran.err) == (130, "", "outpace: interrupted\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--window", "1"], ("a window of 1 tokens", "give 2 or more")),
        (["--stride", "0"], ("stride 0", "give 1 or more")),
        (["--window", "8", "--stride", "9"], ("stride 9", "window of 8", "give 1 to 8")),
        (["--stride", "513"], ("stride 513", "window of 512", "give 1 to 512")),
        (["--convention", "words"], ("'words'", "choose one of tokens, lm-eval")),
        (["--convention", "lm-eval", "--stride", "4"], ("stride 4", "leave it out")),
        (["--convention", "lm-eval", "--no-bos"], ("no BOS", "leave --no-bos out")),
        (["--limit", "0"], ("a limit of 0 tokens", "give 1 or more")),
        (["--window", "many"], ("--window", "'many'", "give one, like 8")),
        (["--dtype", "int3"], ("'int3'", "float32")),
        (["--json", "/nowhere/out.json"], ("/nowhere/out.json", "make it first")),
        (["--json", "."], (". is a folder", "give the name of a file")),
    ],
)
def test_values(ppl: Run, file: Path, words: list[str], said: tuple[str, ...]) -> None:
    check(ppl(file, *words), *said)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.txt", None, ("no such file", "give a .txt or .jsonl file, or one of wikitext")),
        ("empty.txt", b"", ("is empty", "give a file with text")),
        ("white.txt", b" \n", ("is empty", "give a file with text")),
        ("empty.jsonl", b'""\n', ("is empty", "give a file with text")),
        ("bytes.txt", b"\xff\xfe\x00\x80", ("cannot be read as text", "give a UTF-8 file")),
        ("bad.jsonl", b'"a"\n{"texts": 1}\n', ("bad.jsonl, line 2", 'a text "text"')),
        ("cut.jsonl", b'{"text": ', ("cut.jsonl, line 1", "give a JSON string")),
        ("half.jsonl", b'"\\ud800"', ("half.jsonl, line 1", "give a JSON string")),
        ("one.txt", b"a", ("no token to score", "give a longer text, or --bos")),
    ],
)
def test_files(
    ppl: Run, tmp_path: Path, name: str, content: bytes | None, said: tuple[str, ...]
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    check(ppl(path), *said)


def test_other_names(ppl: Run, tmp_path: Path) -> None:
    check(ppl(tmp_path), str(tmp_path), "a folder: give a .txt or .jsonl file")
    check(ppl("with\0zero"), "no such file")
    check(ppl("spec-bench"), "'spec-bench'", "no set of whole texts")
    check(ppl(), "FILE", "outpace ppl --help")


def test_bad_standard_input(ppl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(ppl("-"), "standard input is empty", "give some text")
    check(ppl("-", "-"), "- is given twice", "give it once")
    file = tmp_path / "bytes.bin"
    file.write_bytes(b"\xff\xfe\x00\x80")
    with file.open(encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        check(ppl("-"), "standard input cannot be read as text", "give UTF-8")


def test_values_are_checked_before_a_model_is_loaded(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outpace.models.load", lambda *_, **__: pytest.fail("loaded"))
    check(run("ppl", file, "--stride", 0), "stride 0")
    check(run("ppl", file, "--limit", 0), "limit of 0")
    check(run("ppl", "/nowhere/text.txt"), "no such file")
    check(run("ppl", file, "--json", "/nowhere/out.json"), "/nowhere")


def test_models_that_cannot(ppl: Run, file: Path, folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bare / name).unlink()
    check(ppl(file, "--target", bare), bare, "no tokenizer", "tokenizer.json")
    check(ppl(file, "--target", "/nowhere/model"), "/nowhere/model", "give a model folder")
