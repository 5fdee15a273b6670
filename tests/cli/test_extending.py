"""The package on the page about extending works, installed as its author would have it."""

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import PROMPT, Run

from outpace import Decoder, registry
from outpace.bench import Models, check_methods, make_method
from outpace.models.tiny import tiny_model
from outpace.testing import PROMPTS, ContractBroken, check_drafter

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
TEXT = PAGE.read_text(encoding="utf-8")
MODULE, TEST = re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)
[PROJECT] = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.M | re.S)
Install = Callable[..., None]


def put(install: Install, code: str = MODULE) -> None:
    project: dict[str, Any] = tomllib.loads(PROJECT)["project"]
    [(group, points)] = project["entry-points"].items()
    install(project["name"], group, points, phrase_drafter=code)


def test_it_is_short() -> None:
    assert len(MODULE.splitlines()) < 40


def test_its_name_is_there_without_being_imported(install: Install) -> None:
    assert "phrases" not in registry.names("drafter")
    put(install)
    assert "phrases" in registry.names("drafter")
    assert "phrase_drafter" not in sys.modules
    assert registry.get("drafter", "phrases").__name__ == "PhraseDrafter"


def test_its_own_test_passes(install: Install) -> None:
    put(install)
    scope: dict[str, Any] = {}
    exec(TEST, scope)
    scope["test_contract"]()


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("rest[:room]", "rest", "draft tokens, the budget has 1"),
        ("chain(end[-1])", "chain(0)", "node 0 must be the last token"),
    ],
)
def test_a_broken_one_fails(
    install: Install, tmp_path: Path, right: str, wrong: str, rule: str
) -> None:
    assert right in MODULE
    put(install, MODULE.replace(right, wrong))
    phrases, target = tmp_path / "phrases.txt", tiny_model()
    begins = Decoder(target).generate(PROMPTS[0], max_new_tokens=2).text
    phrases.write_text(begins + "and so on")  # so it has something to draft in one of the texts
    made = registry.get("drafter", "phrases")
    with pytest.raises(ContractBroken, match=rule):
        check_drafter(lambda: made(str(phrases), match=1))


def test_it_drafts_and_the_text_stays(install: Install, generate: Run, tmp_path: Path) -> None:
    put(install)
    plain = generate(PROMPT, "--drafter", "none", "--json").json
    phrases = tmp_path / "phrases.txt"
    phrases.write_text(PROMPT + plain["text"][:12] + "\n")
    ran = generate(PROMPT, "--drafter", f"phrases(file={phrases}, match=2)", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["tokens"] == plain["tokens"]
    assert ran.json["stats"]["accepted"] > 0
    assert generate(PROMPT, "--drafter", "phrases").code == 0


def test_it_is_a_method_of_the_benchmark(install: Install) -> None:
    put(install)
    names = check_methods(["phrases", "phrases(match=2)@8", "phrases(match=5)"])
    assert names == ["hf", "phrases", "phrases(match=2)@8", "phrases(match=5)"]
    made = make_method("phrases(match=2)@8", Models(tiny_model(), None), 5)
    assert made.settings == {"draft_length": 8}
    assert made.decoder.drafter.match == 2  # type: ignore[attr-defined]


def test_doctor_says_where_it_comes_from(
    install: Install, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outpace.cli.doctor._checks", dict)
    put(install)
    install("broken", "outpace.lengths", {"wonky": "no_such_module:Wonky"})
    ran = run("doctor", "--json")
    assert ran.code == 1
    assert "phrases (phrase-drafter 0.1.0)" in ran.json["facts"]["drafters"]
    assert ran.json["facts"]["lengths"] == "adaptive, confidence, fixed, gate, wonky (broken 0.1.0)"
    assert ran.json["checks"]["drafter phrases"] == "can be loaded"
    assert "no_such_module:Wonky of broken 0.1.0" in ran.json["checks"]["draft length wonky"]
