import json

import pytest
from commandline import Run

from outpace import __version__, registry


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stands for the checks, which take seconds."""
    verdicts = {"loop, float32, greedy": "works: the text of plain decoding"}
    monkeypatch.setattr("outpace.cli.doctor._checks", lambda: verdicts)
    return verdicts


def test_json_and_the_loop_works(run: Run) -> None:
    ran = run("doctor", "--json")
    report = ran.json
    assert ran.code == 0
    assert ran.err == ""
    assert report["facts"]["outpace"] == __version__
    assert {"python", "torch", "transformers", "threads", "device", "hub"} <= set(report["facts"])
    assert report["facts"]["drafters"] == ", ".join(registry.names("drafter"))
    exact = {name: text for name, text in report["checks"].items() if "float32" in name}
    assert len(report["checks"]) == 6
    assert set(exact.values()) == {"works: the text of plain decoding"}


def test_text_says_what_json_says(run: Run, checks: dict[str, str]) -> None:
    ran = run("doctor")
    report = json.loads(run("doctor", "--json").out)
    lines = dict(line.split("  ", 1) for line in ran.out.splitlines() if line)
    said = {name.strip(): text.strip() for name, text in lines.items()}
    assert ran.code == 0
    assert ran.err == ""
    assert said == {**report["facts"], **report["checks"]}


def test_failures_are_told(
    run: Run, checks: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks["loop, float16, greedy"] = "FAILED: not implemented for 'Half'"
    ran = run("doctor")
    assert ran.code == 1
    assert "FAILED: not implemented for 'Half'" in ran.out


def test_a_check_that_raises_is_a_failure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("no such kernel\nand a long story")

    monkeypatch.setattr("outpace.models.tiny.tiny_model", broken)
    ran = run("doctor", "--json")
    assert ran.code == 1
    assert set(ran.json["checks"].values()) == {"FAILED: no such kernel"}


@pytest.mark.parametrize(
    ("value", "said"), [("1", "off"), ("true", "off"), ("0", "on"), ("", "on")]
)
def test_hub(
    run: Run, checks: dict[str, str], monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert run("doctor", "--json").json["facts"]["hub"].split()[0] == said


def test_precisions(run: Run, checks: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    facts = run("doctor", "--json").json["facts"]
    assert facts["precisions"].split(", ")[:2] == ["int8", "int4"]
    assert facts["precision fp8"].startswith("not here: precision fp8 on cpu")
    assert not any("fp8" in name for name in facts["precisions"].split(", "))
