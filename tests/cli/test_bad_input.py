"""Whatever is wrong with a command line: exit code 2, one line that says it, nothing else."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import PROMPT, Piped, Ran, Run

from outpace import Decoder, registry


def check(ran: Ran, *said: object) -> None:
    """A refusal: ``said`` are the value and the remedy."""
    assert ran.code == 2, ran
    assert ran.out == ""
    assert ran.err.startswith("outpace: ")
    assert ran.err.count("\n") == 1
    assert ran.err.endswith("\n")
    assert "Traceback" not in ran.err
    for part in said:
        assert str(part) in ran.err


def ruin(folder: Path, copy: Path, change: Callable[[Path], object]) -> Path:
    shutil.copytree(folder, copy)
    change(copy)
    return copy


def configure(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.fixture
def on(run: Run) -> Callable[[object], Ran]:
    """Generate with a target."""
    return lambda target: run("generate", PROMPT, "--target", target, "--dtype", "float32")


# models


def test_no_such_embedded_model(on: Run) -> None:
    check(on("zoo:tiny"), "no embedded model 'zoo:tiny'", "choose one of zoo:target, zoo:small")


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "a/b/c"])
def test_missing_folder(on: Run, name: str) -> None:
    check(on(name), f"{name}: no such folder", "give a model folder or a hub name")


@pytest.mark.parametrize("name", ["", "  "])
def test_empty_name(on: Run, name: str) -> None:
    check(on(name), "an empty model name", "give a model folder or a hub name")


def test_folder_without_configuration(on: Run, tmp_path: Path) -> None:
    check(on(tmp_path), tmp_path, "no config.json", "give a model folder in Hugging Face format")


def test_file_instead_of_folder(on: Run, folder: Path) -> None:
    file = folder / "model.safetensors"
    check(on(file), f"{file} is a file", "give the model's folder")


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model"])
def test_hub_name_while_offline(on: Run, name: str) -> None:
    check(on(name), name, "HF_HUB_OFFLINE", "check the name")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{ nope", "not a valid JSON file"),
        ("{}", "Unrecognized model"),
        ("[1]", "Unrecognized model"),
        ('{"model_type": "no-such-type"}', "no-such-type"),
        ('{"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}', "custom code"),
    ],
)
def test_unusable_configuration(on: Run, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text)
    check(on(tmp_path), tmp_path, said, "check config.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda copy: (copy / "model.safetensors").unlink(), "no file named model.safetensors"),
        (lambda copy: (copy / "model.safetensors").write_bytes(b"nonsense"), "header"),
        (lambda copy: os.truncate(copy / "model.safetensors", 5000), "incomplete"),
        (lambda copy: configure(copy, num_hidden_layers=3), "9 tensors are missing"),
        (lambda copy: configure(copy, intermediate_size=48), "6 tensors are missing or have"),
    ],
    ids=["missing", "nonsense", "truncated", "too few", "other shape"],
)
def test_unusable_weights(
    on: Run, folder: Path, tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    copy = ruin(folder, tmp_path / "model", change)
    check(on(copy), copy, said, "give the complete folder")


@pytest.mark.parametrize("change", [Path.unlink, lambda file: file.write_text("{ nope")])
def test_no_tokenizer(
    on: Run, folder: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    copy = ruin(folder, tmp_path / "model", lambda copy: change(copy / "tokenizer.json"))
    (copy / "tokenizer_config.json").unlink()
    check(on(copy), copy, "no tokenizer that can be read", "tokenizer.json")


def test_encoder_decoder(on: Run, generate: Run, tmp_path: Path) -> None:
    t5 = {"model_type": "t5", "is_encoder_decoder": True}
    (tmp_path / "config.json").write_text(json.dumps(t5))
    check(on(tmp_path), tmp_path, "encoder-decoder (t5)", "give a causal language model")
    ran = generate(PROMPT, "--drafter", tmp_path)
    check(ran, tmp_path, "encoder-decoder (t5)", "give a causal language model")


def test_drafter_with_another_vocabulary(generate: Run, folder: Path, stranger: Path) -> None:
    ran = generate(PROMPT, "--drafter", stranger)
    check(ran, folder, stranger, "number 2 of 257 tokens differently", "--drafter ngram")


@pytest.mark.parametrize(
    ("name", "near"),
    [("ngrm", "ngram"), ("prompt_lookup", "prompt-lookup"), ("NGRAM", "ngram"), ("zzz", None)],
)
def test_misspelt_drafter(generate: Run, name: str, near: str | None) -> None:
    ran = generate(PROMPT, "--drafter", name)
    known = ", ".join(registry.names("drafter"))
    check(ran, repr(name), f"choose one of {known}", "a model folder")
    assert (f"did you mean {near!r}?" in ran.err) == (near is not None)


def test_missing_drafter(generate: Run) -> None:
    check(generate(PROMPT, "--drafter", "/nowhere/drafter"), "/nowhere/drafter", "give a model")
    check(generate(PROMPT, "--drafter", "model"), "'model'", "give the drafter's folder")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("early-exit(layres=1)", ("setting of early-exit 'layres'", "did you mean 'layers'?")),
        ("early-exit(layers=two)", ("early-exit: layers two", "give a whole number or None")),
        ("early-exit(layers=1, layers=1)", ("layers is given twice", "give it once")),
        ("early-exit(layers=1", ("'early-exit(layers=1'", "give NAME(KEY=VALUE, ...)")),
        ("early-exit(1)", ("'early-exit(1)'", "give NAME(KEY=VALUE, ...)")),
        ("early-exit(layers=0)", ("early exit after 0 layers", "has 2, give 1 to 1")),
        ("early-exit(layers=2)", ("early exit after 2 layers", "has 2, give 1 to 1")),
        ("erly-exit(layers=1)", ("'erly-exit'", "did you mean 'early-exit'?")),
        ("none(order=2)", ("none takes no settings", "leave 'order' out")),
        ("model(layers=2)", ("drafter 'model'", "give the drafter's folder")),
        ("ngram(order=1)", ("n-gram order 1", "give 2 or more")),
        ("quantized-self(precision=int3)", ("'int3'", "choose one of int8, int4")),
        ("quantized-self(precision=int4)", ("q_proj has 32 inputs", "multiple of 64", "give int8")),
    ],
)
def test_settings_of_a_drafter(generate: Run, name: str, said: tuple[str, ...]) -> None:
    check(generate(PROMPT, "--drafter", name), *said)


def test_settings_of_other_methods(generate: Run, run: Run) -> None:
    check(generate(PROMPT, "--verifier", "coupled(x=1)"), "coupled takes no settings", "leave 'x'")
    check(generate(PROMPT, "--draft-length", "adaptive(start=99)"), "99", "give low <= start")
    check(generate(PROMPT, "--drafter", "ngram(order=3)", "--tree", "fixed"), "ngram(order=3)")
    for method in ("hf(x=1)", "draft(x=1)@2"):
        name = method.partition("(")[0]
        check(run("bench", "--methods", method), repr(method), f"{name} takes no settings: leave")
    check(run("bench", "--methods", "beam(x=1)"), "setting of beam 'x'", "choose one of beams")
    check(run("bench", "--methods", "ngram(order=4"), "'ngram(order=4'", "give NAME(KEY=VALUE")
    check(run("bench", "--methods", "ngram(ordr=4)@3"), "'ordr'", "did you mean 'order'?")


def test_precisions(generate: Run, on: Run, folder: Path) -> None:
    ran = generate(PROMPT, "--dtype", "int4")
    check(ran, folder, "q_proj has 32 inputs", "a multiple of 64", "give int8")
    ran = generate(PROMPT, "--dtype", "int8", "--drafter", "quantized-self")
    check(ran, f"{folder} (int8) has int8 weights", "quantise the model it was made from")


def test_packages_that_are_broken(generate: Run, install: Callable[..., None]) -> None:
    group, place = "outpace.drafters", "no_such_module:Drafter"
    install("acme", group, {"gone": place, "none-at-all": "json:loads", "two": place})
    install("other", group, {"two": "json:dumps"})
    said = f"drafter 'gone', the entry point {place} of acme 0.1.0, cannot be loaded"
    check(generate(PROMPT, "--drafter", "gone"), said, "No module named", "reinstall that package")
    check(generate(PROMPT, "--drafter", "gone(x=1)"), said, "reinstall that package")
    said = "the entry point json:loads of acme 0.1.0, is no Drafter class"
    check(generate(PROMPT, "--drafter", "none-at-all"), said, "or remove it")
    said = "is in other 0.1.0 (json:dumps) and acme 0.1.0"
    check(generate(PROMPT, "--drafter", "two"), "'two'", said, "remove one of them")
    assert generate(PROMPT, "--drafter", "ngram").code == 0


# prompts


def test_empty_prompts(generate: Run, tmp_path: Path) -> None:
    check(generate(""), "the prompt is empty", "give some text")
    check(generate(), "standard input is empty", "give some text")
    file = tmp_path / "empty.txt"
    file.write_text("")
    check(generate("--file", file), f"the file {file} is empty", "give some text")


def test_no_prompt_at_a_terminal(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Keyboard(Piped):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Keyboard())
    check(generate(), "no prompt", "with --file")


def test_prompt_and_file(generate: Run, tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("a")
    check(generate("hello", "--file", file), "'hello'", file, "give one of them")


def test_prompt_without_quotes(generate: Run) -> None:
    check(generate("once", "upon", "a"), "3 prompts", "'upon'", "put quotes around")


@pytest.mark.parametrize("name", ["gone.txt", ".", "with\0zero"])
def test_file_that_cannot_be_opened(generate: Run, tmp_path: Path, name: str) -> None:
    said = [] if "\0" in name else [tmp_path / name]
    check(generate("--file", f"{tmp_path}/{name}"), *said, "give a text file that can be read")


def test_file_that_may_not_be_read(
    generate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, **_: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refuse)
    file = tmp_path / "secret.txt"
    check(generate("--file", file), f"{file}: Permission denied", "give a text file")


def test_text_that_is_none(generate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "bytes.bin"
    file.write_bytes(b"\xff\xfe\x00\x80")
    check(generate("--file", file), file, "give a UTF-8 file")
    check(generate("caf\udce9"), "the prompt cannot be read as text", "give UTF-8")
    with file.open(encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        check(generate(), "standard input cannot be read as text", "give UTF-8")
        monkeypatch.undo()


def test_prompt_longer_than_the_context(generate: Run, folder: Path) -> None:
    check(generate("a" * 600), "600 tokens", folder, "512", "shorten the prompt")


# values


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--temperature", "-1", ("temperature -1.0", "0 (greedy) or more")),
        ("--temperature", "nan", ("temperature nan", "0 (greedy) or more")),
        ("--temperature", "inf", ("temperature inf", "0 (greedy) or more")),
        ("--top-p", "1.5", ("top-p 1.5", "at most 1")),
        ("--top-p", "0", ("top-p 0.0", "above 0")),
        ("--top-p", "-0.5", ("top-p -0.5", "above 0")),
        ("--top-k", "0", ("top-k 0", "1 or more")),
        ("--min-p", "2", ("min-p 2.0", "0 to 1")),
        ("--typical-p", "0", ("typical-p 0.0", "above 0")),
        ("--repetition-penalty", "0", ("repetition penalty 0.0", "above 0")),
        ("--no-repeat-ngram-size", "-1", ("no-repeat-ngram size -1", "0 (off) or more")),
        ("--max-new-tokens", "0", ("0 new tokens", "1 or more")),
        ("--max-new-tokens", "-3", ("-3 new tokens", "1 or more")),
        ("--seed", str(2**64), (str(2**64), "fits in 64 bits")),
        ("--stop", "", ("empty stop string", "leave it out")),
        ("--draft-length", "0", ("draft length 0", "use --drafter none")),
        ("--draft-length", "-1", ("draft length -1", "1 to 63")),
        ("--draft-length", "1000", ("draft length 1000", "1 to 63")),
        ("--draft-length", "adaptve", ("'adaptve'", "did you mean 'adaptive'?", "a number")),
        ("--draft-length", "2.5", ("'2.5'", "a number of tokens")),
        ("--draft-length", "²", ("'²'", "a number of tokens")),
        ("--draft-length", "--5", ("'--5'", "a number of tokens")),
        ("--dtype", "int3", ("'int3'", "float32")),
        ("--device", "abacus", ("'abacus'", "give cpu")),
        ("--device", "meta", ("'meta'", "give cpu")),
        ("--verifier", "copled", ("'copled'", "did you mean 'coupled'?")),
        # values that are none
        ("--temperature", "abc", ("--temperature", "'abc'", "give one, like 0.8")),
        ("--max-new-tokens", "many", ("--max-new-tokens", "'many'", "give one, like 8")),
        ("--top-k", "1.5", ("--top-k", "'1.5'", "give one, like 8")),
        ("--seed", "x", ("--seed", "'x'", "give one, like 8")),
    ],
)
def test_values(generate: Run, option: str, value: str, said: tuple[str, ...]) -> None:
    check(generate(PROMPT, option, value), *said)


def test_no_gpu(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.empty", absent)
    check(generate(PROMPT, "--device", "cuda"), "device 'cuda'", "give cpu")


def test_values_are_checked_before_a_model_is_loaded(
    generate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decoder, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    check(generate(PROMPT, "--temperature", "-1"), "temperature")
    check(generate(PROMPT, "--max-new-tokens", "0"), "new tokens")
    check(generate(PROMPT, "--stop", ""), "stop string")


def test_recipes(generate: Run, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    for text, said in (
        ("format = 9", ("format 9 is newer than 1", "make the recipe again with outpace tune")),
        ("drafer = 'ngram'", ("unknown key 'drafer'", "did you mean 'drafter'?")),
        ("threads = 0.5", ("threads is 0.5", "give a whole number, 1 or more")),
        ("drafter =", ("is no TOML", "mend it")),
    ):
        file.write_text(text)
        check(generate(PROMPT, "--recipe", file), f"recipe {file}", *said)
    check(run("tune", "--recipe", file), f"{file} is there already", "--force")


# commands and options


def test_unknown_option(generate: Run) -> None:
    ran = generate(PROMPT, "--max-new-token", 3)
    check(ran, "--max-new-token ", "--max-new-tokens", "outpace generate --help")


def test_option_without_value(generate: Run) -> None:
    check(generate(PROMPT, "--top-p"), "--top-p", "requires an argument", "--help")


def test_unknown_command(run: Run) -> None:
    check(run("generat"), "'generat'", "'generate'", "outpace --help")


def test_words_too_many(run: Run) -> None:
    check(run("doctor", "who"), "who", "outpace doctor --help")
    check(run("demo", "--max-new-tokens", 0), "0 new tokens", "1 or more")


def test_message_carries_no_control_characters(on: Run) -> None:
    ran = on("/no\x1b[2J\nwhere")
    check(ran, "␛[2J")
    assert "\x1b" not in ran.err
