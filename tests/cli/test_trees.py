"""Token trees from the command line: shapes, pictures, the benchmark."""

import json
import re
import shlex
from pathlib import Path

import pytest
from commandline import PROMPT, Piped, Run, Terminal
from test_bad_input import check

from outpace.bench import check_methods
from outpace.cli import main

SHAPE = "fixed(depth=3, branch=2)"
pytestmark = pytest.mark.usefixtures("draft_every_round")


@pytest.fixture
def trees(generate: Run, similar: Path) -> Run:
    """Run ``outpace generate`` with a draft model."""
    return lambda *words: generate(PROMPT, "--drafter", similar, *words)


def test_the_text_is_the_same(generate: Run, trees: Run) -> None:
    wanted = generate(PROMPT, "--drafter", "none").out
    for shape in ("best_first", SHAPE, "pruned + adaptive_breadth", "sequoia"):
        ran = trees("--tree", shape)
        assert ran.code == 0, ran.err
        assert ran.out == wanted
        assert "draft tokens" in ran.err
        assert "the same text" in ran.err


@pytest.mark.parametrize("settings", [[], ["--temperature", "1", "--seed", "3"]])
def test_the_picture_of_every_round(trees: Run, settings: list[str]) -> None:
    text = trees("--tree", SHAPE, *settings).out
    ran = trees("--tree", SHAPE, "--show-trees", *settings)
    assert ran.code == 0, ran.err
    assert ran.out.endswith(text)
    record = trees("--tree", SHAPE, "--show-trees", "--json", *settings).json
    pictures = ran.out.removesuffix(text).split("\n\n")[:-1]
    assert len(pictures) == len(record["trees"]) == record["stats"]["rounds"] + 1
    tokens = []
    for picture, tree in zip(pictures, record["trees"], strict=True):
        assert picture.startswith(f"round {tree['round']}: ")
        drafted = len(tree["tokens"]) - 1
        assert picture.count("● ") + picture.count("○ ") == drafted
        marks = re.findall(r"[●→] ('.*?'|\".*?\"|<\d+>)", picture)
        accepted = picture.count("● ")
        assert accepted <= len(tree["path"])
        assert len(marks) >= accepted
        if drafted:
            assert f"{drafted} drafted, " in picture
            assert f"{accepted} accepted" in picture
            assert tree["scores"][1] <= 0
        tokens += marks
    assert len(tokens) == len(record["tokens"])


def test_a_chain_and_a_table_are_drawn_too(generate: Run, trees: Run) -> None:
    for ran in (trees("--show-trees"), generate(PROMPT, "--drafter", "ngram", "--show-trees")):
        assert ran.code == 0
        assert "→" in ran.out


def test_without_room_for_signs(similar: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    class Narrow(Piped):
        encoding = "ascii"

    out = Narrow()
    words = ["generate", PROMPT, "--target", folder, "--drafter", similar, "--dtype", "float32"]
    words += ["--tree", SHAPE, "--show-trees", "--max-new-tokens", 12]
    monkeypatch.setattr("sys.stdout", out)
    assert main([str(word) for word in words]) == 0
    assert not set("●○→├└") & set(out.getvalue())
    assert "+-- * " in out.getvalue() or "`-- * " in out.getvalue()


def test_colours_on_a_terminal(similar: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    out = Terminal()
    words = ["generate", PROMPT, "--target", folder, "--drafter", similar, "--dtype", "float32"]
    words += ["--tree", SHAPE, "--show-trees", "--max-new-tokens", 12]
    monkeypatch.setattr("sys.stdout", out)
    assert main([str(word) for word in words]) == 0
    assert "\x1b[32m" in out.getvalue()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tree", "pruned(tau=1.5)"], "tau 1.5: give a number 0 to 1"),
        (["--tree", "fixed(branch=0)"], "branch 0: give 1 or more"),
        (["--tree", "fixed(depth=0)"], "depth 0: give 1 or more"),
        (["--tree", "fixed(depth=8, nodes=7)"], "7 nodes for a depth of 8"),
        (["--tree", "prnued"], "did you mean 'pruned'?"),
        (["--tree", ""], "give NAME(KEY=VALUE, ...)"),
        (["--tree", SHAPE, "--draft-length", 4], "the shape says how deep to draft"),
        (
            ["--tree", SHAPE, "--verifier", "block"],
            "BlockVerifier takes chains only, TreeDrafter drafts trees",
        ),
        (["--tree", "sequoia + history"], "sequoia plans the whole tree"),
    ],
)
def test_nonsense(trees: Run, words: list[object], said: str) -> None:
    check(trees(*words), said)


@pytest.mark.parametrize("drafter", ["none", "ngram", "prompt-lookup", "auto"])
def test_a_tree_needs_a_draft_model(generate: Run, drafter: str) -> None:
    ran = generate(PROMPT, "--drafter", drafter, "--tree", SHAPE)
    check(ran, "a tree needs a draft model", "give a model as drafter")


def test_the_benchmark_takes_shapes(run: Run, folder: Path, similar: Path, tmp_path: Path) -> None:
    prompts, first, second = tmp_path / "mine.txt", tmp_path / "a.json", tmp_path / "b.json"
    prompts.write_text(PROMPT)
    words = ["--target", folder, "--drafter", similar, "--prompts", prompts, "--dtype", "float32"]
    words += ["--max-new-tokens", 12, "--repeats", 1, "--methods", f"tree,tree:{SHAPE},draft@3"]
    words += ["--draft-length", 5]  # a number: every round has a draft
    ran = run("bench", *words, "--tree", "pruned(tau=0.1)", "--json", first)
    assert ran.code == 0, ran.err
    record = json.loads(first.read_text())
    names = ["hf", "tree", f"tree:{SHAPE}", "draft@3", "tree:pruned(tau=0.1)"]
    assert [result["method"] for result in record["results"]] == names
    assert all(result["identical"] for result in record["results"][1:])
    fixed = record["results"][2]
    assert fixed["settings"]["tree"]["depth"] == 3
    assert 0 < fixed["draft_share"] < 1
    assert record["results"][0]["draft_share"] is None
    again = shlex.split(record["config"]["command"])[1:]
    assert run(*again, "--json", second).code == 0
    assert [r["method"] for r in json.loads(second.read_text())["results"]] == names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tree@4", "takes no draft length"),
        ("tree:fixed@4", "give NAME|takes no draft length"),
        ("tree:fixd", "did you mean 'fixed'?"),
        ("tree:", "give NAME"),
        ("trees", "did you mean 'tree'?"),
    ],
)
def test_nonsense_in_the_benchmark(run: Run, name: str, said: str) -> None:
    with pytest.raises(Exception, match=said.replace("?", r"\?")):
        check_methods([name])
    assert run("bench", "--methods", name).code == 2
