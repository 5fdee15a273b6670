"""``outpace warm`` and ``outpace cache``, without a compiler's minutes."""

from pathlib import Path

import pytest
from commandline import Run

from outpace.errors import RuntimeUnavailable
from outpace.folders import CACHE_VARIABLE
from outpace.models import artefacts, choosing, preparing


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    return tmp_path / "compiled"


def test_both_models_are_compiled_and_listed(
    run: Run, folder: Path, similar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def compile_packages(step, shapes, dtype, vocabulary, place, note):  # type: ignore[no-untyped-def]
        for what in ("exporting", "compiling for narrow forwards", "timing"):
            note(what)
        place.mkdir(parents=True)
        (place / "wide.so").write_bytes(b"0" * 1000)
        made.append(vocabulary)

    monkeypatch.setattr(preparing, "compile_packages", compile_packages)
    monkeypatch.setattr(choosing, "_checked", lambda model, prepared: model._runtime)
    ran = run("warm", "--target", folder, "--drafter", similar, "--dtype", "float32")
    assert ran.code == 0, ran.err
    assert ran.out == f"{folder} is compiled\n{similar} is compiled\n"
    assert "exporting" in ran.err
    assert len(made) == 2
    assert run("warm", "--target", folder, "--dtype", "float32").code == 0
    assert len(made) == 2  # it was there
    listed = run("cache", "ls")
    assert str(folder) in listed.out.replace("\n", "") or "float32" in listed.out
    assert "2 compiled models" in listed.out
    record = run("cache", "ls", "--json").json
    assert {one["model"] for one in record["compiled"]} == {str(folder), str(similar)}
    assert record["being_made"] == []
    assert "removed 2 compiled models" in run("cache", "clear").out
    assert "0 compiled models" in run("cache", "ls").out


def test_what_cannot_be_compiled_is_one_line_and_exit_code_2(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: object) -> None:
        raise RuntimeUnavailable("there is no C++ compiler here: install g++ to have it compiled")

    monkeypatch.setattr(preparing, "compile_packages", refused)
    ran = run("warm", "--target", folder, "--dtype", "float32")
    assert ran.code == 2
    assert f"outpace: {folder} runs eagerly: there is no C++ compiler here" in ran.err
    assert artefacts.artefacts() == []


@pytest.mark.filterwarnings("ignore:.*runs eagerly")  # a process of its own says it once
def test_a_run_says_why_it_is_eager(run: Run, folder: Path) -> None:
    words = ["generate", "one two", "--target", folder, "--drafter", "none", "--max-new-tokens", 4]
    ran = run(*words, "--runtime", "graph")
    assert ran.code == 0
    assert ran.err.startswith(f"outpace: {folder} runs eagerly: graphs are CUDA's")
    ran = run(*words, "--runtime", "fast")
    assert ran.code == 2
    assert ran.err == "outpace: runtime 'fast': choose one of auto, eager, graph, compile\n"
    for command in ("bench", "tune"):
        ran = run(command, "--target", folder, "--runtime", "fast")
        assert (ran.code, ran.err.count("\n")) == (2, 1)


def test_a_limit_that_is_none_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(artefacts.LIMIT_VARIABLE, "much")
    ran = run("cache", "ls")
    assert (ran.code, ran.err) == (
        2,
        "outpace: OUTPACE_CACHE_GB='much': give a number of gigabytes above 0\n",
    )
