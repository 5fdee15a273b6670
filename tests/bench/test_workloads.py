import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from outpace.bench import load_prompts
from outpace.bench.workloads import prompts_hash
from outpace.errors import PromptError, UnknownName


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of our own making, laid out as the real one."""
    books = tmp_path / "pg19_test_books"
    books.mkdir()
    for name in "ab":
        text = "\n\n".join(f"Paragraph {n} of book {name}. " * 20 for n in range(50))
        (books / f"{name}.txt").write_text(text)
    (tmp_path / "wikitext-2-raw").mkdir()
    articles = "".join(
        f" = Article {n} = \n \n {'Some words . ' * 200}\n = = Part = = \n" for n in range(6)
    )
    (tmp_path / "wikitext-2-raw" / "wiki.test.raw").write_text(articles)
    (tmp_path / "humaneval").mkdir()
    with gzip.open(tmp_path / "humaneval" / "HumanEval.jsonl.gz", "wt") as file:
        for n in range(10):
            print(json.dumps({"task_id": f"H/{n}", "prompt": f"def f{n}():\n"}), file=file)
    (tmp_path / "spec_bench").mkdir()
    with (tmp_path / "spec_bench" / "question.jsonl").open("w") as file:
        for n in range(9):
            row = {"question_id": n, "category": f"c{n // 3}", "turns": [f"Question {n}?", "x"]}
            print(json.dumps(row), file=file)
    return tmp_path


def test_books_give_passages_in_turn(data: Path) -> None:
    prompts = load_prompts(["pg19"], data_dir=data, limit=4, prompt_tokens=8)
    assert [prompt.name[0] for prompt in prompts] == ["a", "b", "a", "b"]
    assert all(prompt.text.startswith("Paragraph") for prompt in prompts)
    assert len({prompt.text for prompt in prompts}) == 4
    assert {prompt.tokens for prompt in prompts} == {8}


def test_articles(data: Path) -> None:
    prompts = load_prompts(["wikitext"], data_dir=data, limit=3)
    assert [prompt.name for prompt in prompts] == ["Article 1", "Article 3", "Article 5"]
    assert prompts[0].text.startswith("= Article 1 =")


def test_problems_are_spread_over_the_set(data: Path) -> None:
    prompts = load_prompts(["humaneval"], data_dir=data, limit=2)
    assert [prompt.name for prompt in prompts] == ["H/2", "H/7"]
    assert prompts[0].tokens is None
    assert len(load_prompts(["humaneval"], data_dir=data, limit=99)) == 10


def test_questions_of_all_categories(data: Path) -> None:
    prompts = load_prompts(["spec-bench"], data_dir=data, limit=4)
    assert [prompt.name.partition("/")[0] for prompt in prompts] == ["c0", "c1", "c2", "c0"]
    assert len(load_prompts(["spec-bench"], data_dir=data, limit=99)) == 9


def test_as_many_of_each_category_where_they_differ_in_size(data: Path) -> None:
    with (data / "spec_bench" / "question.jsonl").open("a") as file:
        for n in range(9, 40):
            row = {"question_id": n, "category": "large", "turns": [f"Question {n}?"]}
            print(json.dumps(row), file=file)
    prompts = load_prompts(["spec-bench"], data_dir=data, limit=2 * 4)
    kinds = Counter(prompt.name.partition("/")[0] for prompt in prompts)
    assert kinds == {"c0": 2, "c1": 2, "c2": 2, "large": 2}


def test_several_workloads_and_files(data: Path, tmp_path: Path) -> None:
    lines = tmp_path / "mine.jsonl"
    lines.write_text('"one"\n\n{"prompt": "two", "more": 1}\n')
    text = tmp_path / "mine.txt"
    text.write_text("A text\nof two lines.\n")
    prompts = load_prompts(["humaneval", str(lines), str(text)], data_dir=data, limit=2)
    texts = [prompt.text for prompt in prompts]  # in turn
    assert texts == ["def f2():\n", "one", "A text\nof two lines.", "def f7():\n", "two"]
    assert prompts[1].name == "mine.jsonl:1"
    assert prompts_hash(prompts) != prompts_hash(prompts[1:])
    assert prompts_hash(prompts) == prompts_hash(list(prompts))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("not json", "line 1: give a JSON string"),
        ('{"text": "x"}', 'an object with a text "prompt"'),
        ('""', "line 1: give a JSON string"),
        ("[1, 2]", "line 1: give a JSON string"),
        (r'"\ud800"', "line 1: give a JSON string"),
    ],
)
def test_lines_that_are_no_prompts(tmp_path: Path, line: str, why: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(PromptError, match=why):
        load_prompts([str(file)])


def test_what_is_not_there(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match="did you mean 'humaneval'"):
        load_prompts(["human-eval"], data_dir=data)
    with pytest.raises(PromptError, match="--data-dir names the folder with humaneval"):
        load_prompts(["humaneval"], data_dir=tmp_path / "none")
    with pytest.raises(PromptError, match="give 1 or more"):
        load_prompts(["humaneval"], data_dir=data, limit=0)
    with pytest.raises(PromptError, match="give 1 or more"):
        load_prompts(["pg19"], data_dir=data, prompt_tokens=0)
    monkeypatch.setenv("OUTPACE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(PromptError, match="OUTPACE_DATA names a folder with data/"):
        load_prompts(["pg19"])
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    with pytest.raises(PromptError, match="no prompt in"):
        load_prompts([str(empty)])
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(PromptError, match="give a UTF-8 file"):
        load_prompts([str(binary)])


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"{}\n"), gzip.compress(b"x")[:12]],
    ids=["no gzip", "no problem", "cut off"],  # compressed data holds the time of day
)
def test_problems_that_are_none(data: Path, content: bytes) -> None:
    (data / "humaneval" / "HumanEval.jsonl.gz").write_bytes(content)
    with pytest.raises(PromptError, match="give the file as published"):
        load_prompts(["humaneval"], data_dir=data)


@pytest.mark.parametrize("content", ["{}", "[]", "x", '{"category": "c", "turns": []}'])
def test_questions_that_are_none(data: Path, content: str) -> None:
    (data / "spec_bench" / "question.jsonl").write_text(content)
    with pytest.raises(PromptError, match="give the file as published"):
        load_prompts(["spec-bench"], data_dir=data)


def test_an_empty_file(data: Path) -> None:
    (data / "spec_bench" / "question.jsonl").write_text("")
    with pytest.raises(PromptError, match="no prompt in spec-bench"):
        load_prompts(["spec-bench"], data_dir=data)
