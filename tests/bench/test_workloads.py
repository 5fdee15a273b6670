import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from outpace.bench import BenchPrompt, load_prompts
from outpace.bench.published import CATEGORIES, PUBLISHED, TASKS, task
from outpace.bench.workloads import note_for, prompts_hash
from outpace.data import data_root
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


def test_a_book_without_paragraphs(data: Path) -> None:
    for file in (data / "pg19_test_books").iterdir():
        file.write_text("0123456789" * 1000)
    prompts = load_prompts(["pg19"], data_dir=data, limit=4)
    assert [prompt.name for prompt in prompts] == ["a@3333", "b@3333", "a@6666", "b@6666"]


def test_articles(data: Path) -> None:
    prompts = load_prompts(["wikitext"], data_dir=data, limit=3)
    assert [prompt.name for prompt in prompts] == ["Article 1", "Article 3", "Article 5"]
    assert prompts[0].text.startswith("= Article 1 =")


def test_problems_are_spread_over_the_set(data: Path) -> None:
    prompts = load_prompts(["humaneval"], data_dir=data, limit=2)
    assert [prompt.name for prompt in prompts] == ["H/2", "H/7"]
    assert prompts[0].tokens is None
    assert len(load_prompts(["humaneval"], data_dir=data, limit=99)) == 10


def test_articles_of_the_other_split(data: Path) -> None:
    (data / "wikitext-2-raw" / "wiki.valid.raw").write_text(f" = Other = \n{'word ' * 999}\n")
    prompts = load_prompts(["wikitext-valid"], data_dir=data)
    assert [prompt.name for prompt in prompts] == ["Other"]


def test_stories_start_at_their_beginning(data: Path) -> None:
    (data / "tinystories").mkdir()
    story = "Once upon a time, it was {}. They sang: Once upon a time.\n\nThen it ended.\n\n"
    text = "the end of a story.\n\n" + "".join(map(story.format, range(9)))
    (data / "tinystories" / "tinystories_valid_sample.txt").write_text(text)
    prompts = load_prompts(["tinystories"], data_dir=data, limit=3, prompt_tokens=5)
    starts = [prompt.text.partition(".")[0] for prompt in prompts]
    assert starts == [f"Once upon a time, it was {number}" for number in (1, 4, 7)]
    assert {prompt.tokens for prompt in prompts} == {5}
    assert len(load_prompts(["tinystories"], data_dir=data, limit=99)) == 9


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


def written(folder: Path, categories: Sequence[str], each: int) -> None:
    """Questions of two turns, as MT-bench and Spec-Bench publish them."""
    folder.mkdir(exist_ok=True)
    rows = [(one, f"{one} {number}") for one in categories for number in range(each)]
    with (folder / "question.jsonl").open("w", encoding="utf-8") as file:
        for number, (one, text) in enumerate(rows):
            turns = [f"{text}\u2028?", f"{text}, and then?"]
            row = {"question_id": number, "category": one, "turns": turns}
            print(json.dumps(row, ensure_ascii=False), file=file)


def test_chat_is_one_task_of_six(data: Path) -> None:
    written(data / "spec_bench", [*CATEGORIES, *TASKS[1:]], each=6)
    prompts = load_prompts(["spec-bench"], data_dir=data, limit=12)
    kinds = Counter(task(prompt.name.partition("/")[0]) for prompt in prompts)
    assert kinds == dict.fromkeys(TASKS, 2)
    assert {prompt.turns for prompt in prompts} == {()}  # first turns


def test_one_task_by_itself(data: Path) -> None:
    written(data / "spec_bench", [*CATEGORIES, *TASKS[1:]], each=6)
    prompts = load_prompts(["spec-bench:chat"], data_dir=data, limit=16)
    kinds = Counter(prompt.name.partition("/")[0] for prompt in prompts)
    assert kinds == dict.fromkeys(CATEGORIES, 2)
    assert prompts[0].turns == (prompts[0].text.replace("\u2028?", ", and then?"),)
    for one in TASKS[1:]:
        prompts = load_prompts([f"spec-bench:{one}"], data_dir=data, limit=99)
        assert {prompt.name.partition("/")[0] for prompt in prompts} == {one}
        assert len(prompts) == 6


def test_conversations(data: Path) -> None:
    written(data / "mt_bench", CATEGORIES, each=3)
    prompts = load_prompts(["mt-bench"], data_dir=data, limit=8)
    assert [prompt.name.partition("/")[0] for prompt in prompts] == list(CATEGORIES)
    assert prompts[0].text.startswith("writing 1")
    assert prompts[0].turns == ("writing 1, and then?",)
    prompts = load_prompts(["mt-bench:stem"], data_dir=data)
    assert [prompt.text[:6] for prompt in prompts] == ["stem 0", "stem 1", "stem 2"]


def test_a_set_without_one_of_its_parts(data: Path) -> None:
    with pytest.raises(PromptError, match="no prompt in spec-bench:rag"):
        load_prompts(["spec-bench:rag"], data_dir=data)


def test_the_parts_of_published_files() -> None:
    if data_root() is None:
        pytest.skip("no evaluation texts here")
    names = [name for name in PUBLISHED if name.startswith(("spec-bench:", "mt-bench:"))]
    for name in names:
        expected = 10 if name.startswith("mt-bench:") else 80
        assert len(load_prompts([name], limit=999)) == expected
    assert len(load_prompts(["spec-bench"], limit=999)) == 480


def test_turns_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"turns": ["one", "two", "three"]}\n{"turns": ["four"]}\n"five"\n')
    prompts = load_prompts([str(file)])
    assert [(prompt.text, prompt.turns) for prompt in prompts] == [
        ("one", ("two", "three")),
        ("four", ()),
        ("five", ()),
    ]


def test_the_hash_knows_later_turns() -> None:
    plain, other = BenchPrompt("own", "0", "one"), BenchPrompt("own", "1", "two")
    turns = BenchPrompt("own", "0", "one", turns=("two",))
    # as it was before there were turns
    expected = hashlib.sha256(b"\x03" + bytes(7) + b"one" + b"\x03" + bytes(7) + b"two")
    assert prompts_hash([plain, other]) == expected.hexdigest()
    assert len({prompts_hash(one) for one in ([plain], [turns], [plain, other])}) == 3
    assert prompts_hash([replace(turns, seed=1, name="x")]) == prompts_hash([turns])


def test_what_is_said_of_questions() -> None:
    names = ["wikitext", "mt-bench", "hub:mt-bench:stem", "spec-bench:qa", "mt-bench"]
    note = note_for(names)
    assert note is not None
    assert note.startswith("mt-bench, hub:mt-bench:stem, spec-bench:qa: a model that is no chat")
    assert note_for(["wikitext", "humaneval", "hub:pg19", "mt-bench.jsonl", "synthetic"]) is None


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
        ('["a list", "alone"]', "line 1: give a JSON string"),
        ('{"turns": []}', 'a list of texts "turns"'),
        ('{"turns": ["one", 2]}', 'a list of texts "turns"'),
        ('{"turns": ["one", ""]}', 'a list of texts "turns"'),
        ('{"prompt": "one", "turns": ["one"]}', "line 1: give a JSON string"),
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
    with pytest.raises(UnknownName, match=r"did you mean 'spec-bench:rag'\?\): no such part: give"):
        load_prompts(["spec-bench:rags"], data_dir=data)
    with pytest.raises(UnknownName, match=r"give mt-bench or one of mt-bench:writing, .*nities$"):
        load_prompts(["mt-bench:x"], data_dir=data)
    with pytest.raises(UnknownName, match=f"a folder: give a file in it, or hub:{data} to read"):
        load_prompts([str(data)], data_dir=data)
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
