"""Sets of the hubs, without a hub: ``datasets`` reads folders as it reads what it downloads."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from outpace.bench import BenchPrompt, hub, load_prompts
from outpace.bench.hub import SETS
from outpace.bench.published import PUBLISHED
from outpace.errors import InvalidArgument, PromptError, UnknownName

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def folder_with(folder: Path, rows: Sequence[dict[str, Any]], split: str = "train") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def stands_for(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a folder be what the hub has under a name; the split stays."""
    source, arrange = SETS[name]
    known = {**SETS, name: (replace(source, place=str(folder), config=None), arrange)}
    monkeypatch.setattr(hub, "SETS", known)


def said(prompts: Sequence[BenchPrompt]) -> list[tuple[str, tuple[str, ...]]]:
    return [(prompt.text, prompt.turns) for prompt in prompts]


@pytest.mark.parametrize(
    ("row", "expected", "passage"),
    [
        ({"id": 1, "question": "q", "text": "t", "prompt": "p"}, ("p", ()), False),
        ({"content": "c", "question": "q", "text": "t"}, ("t", ()), True),
        ({"question": "q", "turns": ["a", "b"]}, ("a", ("b",)), False),
        ({"content": "c", "instruction": "i", "question": "q"}, ("q", ()), False),
        ({"content": "c", "instruction": "i"}, ("i", ()), False),
        ({"content": "c", "title": "x"}, ("c", ()), True),
    ],
)
def test_which_column(
    tmp_path: Path, row: dict[str, Any], expected: tuple[str, tuple[str, ...]], passage: bool
) -> None:
    folder = folder_with(tmp_path / "set", [row])
    prompts = load_prompts([f"hub:{folder}"], prompt_tokens=7)
    assert said(prompts) == [expected]
    assert prompts[0].tokens == (7 if passage else None)
    assert (prompts[0].workload, prompts[0].name) == ("hub:set", "set:1")


def test_settings_choose(tmp_path: Path) -> None:
    folder = tmp_path / "my (set)"
    folder_with(folder, [{"prompt": "train", "other": "o"}])
    folder_with(folder, [{"prompt": "test", "other": "p"}], split="test")
    name = f"hub:{folder}"
    assert said(load_prompts([name])) == [("test", ())]
    plain = folder.rename(tmp_path / "plain")
    prompts = load_prompts([f"hub:{plain}(split=train, column=other)"])
    assert said(prompts) == [("o", ())]
    assert prompts[0].workload == "hub:plain(split=train, column=other)"


def test_prompts_are_spread_over_the_first_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"row {number}"} for number in range(20)]
    rows[2]["prompt"] = rows[5]["prompt"] = None
    rows[3]["prompt"] = ""
    folder = folder_with(tmp_path / "set", rows)
    monkeypatch.setattr(hub, "ROWS", 9)
    texts = [prompt.text for prompt in load_prompts([f"hub:{folder}"], limit=3)]
    assert texts == ["row 1", "row 6", "row 8"]
    assert len(load_prompts([f"hub:{folder}"], limit=15)) == 12  # more rows where more are wanted
    monkeypatch.setattr(hub, "CHARACTERS", 10)
    texts = [prompt.text for prompt in load_prompts([f"hub:{folder}"], limit=1)]
    assert texts == ["row 1"]


def test_parquet_and_text(tmp_path: Path) -> None:
    folder = tmp_path / "columns"
    folder.mkdir()
    rows = {"prompt": ["one", "two"], "more": [1, 2]}
    datasets.Dataset.from_dict(rows).to_parquet(str(folder / "test.parquet"))
    assert said(load_prompts([f"hub:{folder}"])) == [("one", ()), ("two", ())]
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("A text\nof two lines.\n")
    (folder / "b.txt").write_text("Another.")
    (folder / "README.md").write_text("Two texts.\n")
    prompts = load_prompts([f"hub:{folder}"])
    assert said(prompts) == [("A text\nof two lines.\n", ()), ("Another.", ())]


def test_the_hub_gives_the_articles_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " \n" + "".join(
        f" = Article {n} = \n \n {'Some words . ' * 200}\n \n = = Part = = \n \n" for n in range(6)
    )
    data = tmp_path / "data" / "wikitext-2-raw"
    data.mkdir(parents=True)
    (data / "wiki.test.raw").write_text(text)
    lines = [{"text": line if line.strip() else ""} for line in text.splitlines(keepends=True)]
    folder = folder_with(tmp_path / "set", lines, split="test")
    stands_for("wikitext", folder, monkeypatch)
    there = load_prompts(["hub:wikitext"], limit=3)
    here = load_prompts(["wikitext"], data_dir=tmp_path / "data", limit=3)
    assert [replace(prompt, workload="wikitext") for prompt in there] == here
    assert len(there) == 3
    # a negative control: rows that are not joined are another text
    assert load_prompts([f"hub:{folder}"], limit=3)[0].text != here[0].text


def test_books_problems_stories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n\n".join(f"Paragraph {number}. " * 20 for number in range(50))
    ends = {"a": "\n", "b": "\r\n", "c": "\n"}
    rows = [
        {"short_book_title": name, "text": text.replace("\n", end)} for name, end in ends.items()
    ]
    stands_for("pg19", folder_with(tmp_path / "books", rows, "test"), monkeypatch)
    prompts = load_prompts(["hub:pg19"], limit=4, prompt_tokens=9)
    assert [prompt.name[:2] for prompt in prompts] == ["a@", "b@", "c@", "a@"]
    assert all(prompt.text.startswith("Paragraph ") for prompt in prompts)
    assert prompts[1].text == prompts[2].text != prompts[3].text
    assert {prompt.tokens for prompt in prompts} == {9}

    rows = [{"task_id": f"H/{n}", "prompt": f"def f{n}():\n"} for n in range(10)]
    stands_for("humaneval", folder_with(tmp_path / "code", rows, "test"), monkeypatch)
    prompts = load_prompts(["hub:humaneval"], limit=2)
    assert [prompt.name for prompt in prompts] == ["H/2", "H/7"]

    rows = [{"text": f"Once {number}"} for number in range(4)]
    stands_for("tinystories", folder_with(tmp_path / "tales", rows, "validation"), monkeypatch)
    prompts = load_prompts(["hub:tinystories"], limit=2)
    assert [prompt.text for prompt in prompts] == ["Once 1", "Once 3"]
    assert prompts[0].tokens == 128


def test_conversations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"category": kind, "prompt_id": number, "prompt": [f"{kind} {number}", "and then?"]}
        for kind in ("writing", "stem")
        for number in range(3)
    ]
    folder = folder_with(tmp_path / "set", rows)
    stands_for("mt-bench", folder, monkeypatch)
    prompts = load_prompts(["hub:mt-bench"], limit=2)
    assert said(prompts) == [("writing 1", ("and then?",)), ("stem 1", ("and then?",))]
    stands_for("mt-bench:stem", folder, monkeypatch)
    prompts = load_prompts(["hub:mt-bench:stem"])
    assert [prompt.name for prompt in prompts] == ["stem/0", "stem/1", "stem/2"]


def test_what_the_hub_has_by_name() -> None:
    assert set(SETS) <= set(PUBLISHED)
    assert {name for name in set(PUBLISHED) - set(SETS) if not name.startswith("spec-")} == set()


def test_modelscope_is_read_like_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path / "downloaded", [{"instruction": "one"}])
    asked = []

    class Modelscope(ModuleType):
        def dataset_snapshot_download(self, name: str) -> str:
            asked.append(name)
            return str(folder)

    monkeypatch.setitem(sys.modules, "modelscope", Modelscope("modelscope"))
    prompts = load_prompts(["modelscope:some/set(split=train)"])
    assert asked == ["some/set"]
    assert said(prompts) == [("one", ())]
    assert prompts[0].workload == "modelscope:some/set(split=train)"
    with pytest.raises(InvalidArgument, match="did you mean 'split'"):
        load_prompts(["modelscope:some/set(splits=train)"])
    assert len(asked) == 1  # refused before anything is downloaded


def test_modelscope_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Modelscope(ModuleType):
        def dataset_snapshot_download(self, name: str) -> str:
            raise ConnectionError("no\nnetwork " + "x" * 999)

    monkeypatch.setitem(sys.modules, "modelscope", Modelscope("modelscope"))
    with pytest.raises(PromptError, match=r"modelscope:a/b' cannot be read \(no network x") as told:
        load_prompts(["modelscope:a/b"])
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 500


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("hub:wikitext", "datasets"),
        ("hub:a/b", "datasets"),
        ("modelscope:a/b", "datasets"),
        ("modelscope:a/b", "modelscope"),
    ],
)
def test_packages_that_are_missing(
    name: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    message = rf'{name}\' need the package {missing}: pip install "outpace\[{missing}\]"$'
    with pytest.raises(PromptError, match=message):
        load_prompts([name])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("hub:wikitxt", r"'wikitxt' \(did you mean 'wikitext'\?\)"),
        ("hub:mt-bench:stems", "did you mean 'mt-bench:stem'"),
        ("hub:spec-bench", "the hub has no usual copy of Spec-Bench"),
        ("hub:./no/such/folder", "or a folder that exists"),
        ("hub:", "unknown set of the hub ''"),
        ("modelscope:wikitext", "give modelscope:ORG/NAME"),
    ],
)
def test_names_no_hub_is_asked_for(name: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(UnknownName, match=why):
        load_prompts([name])


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ("(split=no)", r"cannot be read \(Bad split: no.*\): give a folder with .jsonl"),
        ("(config=no)", "cannot be read"),
        ("(column=no)", "no column 'no': give column= one of id, prompt"),
        ("(column=id)", "row 1: 'id' is neither a text nor a list of texts: give column="),
        ("(colum=id)", "did you mean 'column'"),
        ("(column)", r"give NAME\(KEY=VALUE, ...\), as in hub:ORG/NAME\(config"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, settings: str, why: str) -> None:
    folder = folder_with(tmp_path / "set", [{"id": 1, "prompt": "one"}])
    with pytest.raises(InvalidArgument, match=why):
        load_prompts([f"hub:{folder}{settings}"])


def test_folders_without_prompts(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    with pytest.raises(PromptError, match=r"cannot be read .*: give a folder with .jsonl"):
        load_prompts([f"hub:{folder}"])
    folder_with(folder, [{"id": 1}])
    with pytest.raises(PromptError, match=r"no column that is known to hold prompts: give .* id$"):
        load_prompts([f"hub:{folder}"])
    folder_with(folder, [{"prompt": None}, {"prompt": " "}])
    with pytest.raises(PromptError, match="no prompt in hub:"):
        load_prompts([f"hub:{folder}"])


def test_a_known_set_in_another_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path / "set", [{"prompt": "one"}], split="test")
    stands_for("humaneval", folder, monkeypatch)
    with pytest.raises(PromptError, match=r"cannot be read \(there is no 'task_id'\)"):
        load_prompts(["hub:humaneval"])


def test_the_hub_is_not_asked_where_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PromptError, match="HF_HUB_OFFLINE is set, so the hub is not asked"):
        load_prompts(["hub:nobody/nothing"])

    def refuse(*_: object, **__: object) -> None:
        raise OSError("gated")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(PromptError, match=r"\(gated\): check the name.*hf auth login"):
        load_prompts(["hub:nobody/nothing"])
