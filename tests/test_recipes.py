"""Recipes: to a file and back, and what stands in them runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from outpace import recipe as module
from outpace import registry
from outpace.drafters.model import ModelDrafter
from outpace.drafters.none import NoDrafter
from outpace.drafters.tree import TreeDrafter
from outpace.errors import InvalidArgument
from outpace.lengths.costs import Costs
from outpace.lengths.fixed import FixedLength
from outpace.models.tiny import tiny_model
from outpace.recipe import FORMAT, Recipe

COSTS = Costs({1: 0.01, 8: 0.012}, {0: 0.0, 1: 1e-3}, 1e-4, 2e-4, 128, 1e-7)
FULL = Recipe(
    "zoo:target",
    "zoo:small",
    None,
    "gate",
    "rejection",
    "float32",
    "cpu",
    "eager",
    2,
    COSTS,
    {"date": "2026-01-01", "candidates": {"zoo:small@3": {"predicted": 1.0, "measured": 2.0}}},
    "int8",
)


class TableLength(FixedLength):
    """Stands in for the gate: remembers what it was given."""

    def __init__(self, costs: Costs | None = None, frozen: bool = False) -> None:
        super().__init__(3)
        self.given = (costs, frozen)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.LENGTHS, "gate", f"{__name__}:TableLength")  # type: ignore[arg-type]


@pytest.mark.parametrize("recipe", [Recipe(), FULL, Recipe(tree="fixed(depth=2)", draft_length=4)])
def test_round_trip(recipe: Recipe, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    recipe.write(file)
    assert Recipe.read(file) == recipe
    recipe.write(file)
    assert [one.name for one in tmp_path.iterdir()] == ["recipe.toml"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(TEXTS, TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_any_text_survives(
    tmp_path_factory: pytest.TempPathFactory, target: str, drafter: str, measured: dict[str, str]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    recipe = Recipe(target, drafter, measured=measured)
    recipe.write(file)
    assert Recipe.read(file) == recipe


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("old")
    with pytest.raises(InvalidArgument, match="object"):
        Recipe(measured={"a": object()}).write(tmp_path / "r.toml")
    assert (tmp_path / "r.toml").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("target = ", ["is no TOML", "mend it"]),
        ("taget = 'x'", ["unknown key 'taget'", "did you mean 'target'?", "choose one of target"]),
        ("target = 3", ["target is 3: give text"]),
        ("draft_length = 1.5", ["draft_length is 1.5: give a number of tokens"]),
        ("draft_length = true", ["draft_length is True: give a number of tokens"]),
        ("threads = 0", ["threads is 0: give a whole number, 1 or more"]),
        ("threads = true", ["threads is True: give a whole number"]),
        ("costs = 3", ["costs is 3: give a table"]),
        ("measured = 3", ["measured is 3: give a table"]),
        ("format = 'new'", ["format is 'new': give 1"]),
        (f"format = {FORMAT + 1}", [f"format {FORMAT + 1} is newer than {FORMAT}", "install"]),
        ("[costs]\nheld = 1", ["[costs.verifying] is empty", "leave costs out"]),
        ("[costs.verifying]\n1 = 1\n[costs.drafting]", ["[costs.drafting] is empty: leave it out"]),
        ("[costs.verifying]\n0 = 1.0", ["key '0': give a whole number, 1 or more"]),
        ("[costs.verifying]\none = 1.0", ["key 'one': give a whole number, 1 or more"]),
        ("[costs.verifying]\n1 = -1.0", ["1 is -1.0: give a number of seconds, 0 or more"]),
        ("[costs.verifying]\n1 = nan", ["1 is nan: give a number of seconds"]),
        ("[costs]\nverifying = 3", ["verifying is 3: give a table"]),
        ("[costs]\noverhead = 'x'\nverifying = {1 = 1}", ["overhead is 'x': give a number of"]),
        ("[costs]\noverhed = 1\nverifying = {1 = 1}", ["'overhed'", "did you mean 'overhead'?"]),
    ],
)
def test_errors(tmp_path: Path, text: str, said: list[str]) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    with pytest.raises(InvalidArgument) as caught:
        Recipe.read(file)
    message = str(caught.value)
    assert message.startswith(f"recipe {file}")
    assert "\n" not in message
    for part in said:
        assert part in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"r.toml: no such file: make one with outpace tune"):
        Recipe.read(tmp_path / "r.toml")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        Recipe.read(tmp_path)
    file = tmp_path / "r.toml"
    for content, why in ((b"\xff\xfe", "cannot be read as text"), (b"= 3", "is no TOML")):
        file.write_bytes(content)
        with pytest.raises(InvalidArgument, match=why):
            Recipe.read(file)


def test_an_older_file_or_one_written_by_hand(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("drafter = 'ngram'\n[costs.verifying]\n1 = 1\n")
    read = Recipe.read(tmp_path / "r.toml")
    assert (read.target, read.drafter) == ("zoo:target", "ngram")
    assert read.costs == Costs({1: 1.0})


def test_other_parts() -> None:
    assert FULL.but() == FULL
    assert FULL.but(draft_length=5).costs == COSTS
    assert FULL.but(verifier="coupled").costs == COSTS
    assert FULL.but(drafter="zoo:small").costs == COSTS  # the same one
    for name, value in (("drafter", "ngram"), ("dtype", "int8"), ("target", "x"), ("threads", 1)):
        other = FULL.but(**{name: value})
        assert getattr(other, name) == value
        assert other.costs is None
    tree = FULL.but(tree="best_first")
    assert (tree.tree, tree.draft_length) == ("best_first", None)
    assert tree.but(draft_length=3).tree is None
    assert tree.but(drafter="ngram").tree is None


@pytest.mark.usefixtures("gate")
def test_costs_go_to_the_gate_and_stay_as_they_are() -> None:
    models = {"target": tiny_model(), "drafter": tiny_model(seed=1)}
    recipe = Recipe(drafter="x", costs=COSTS)
    for one in (recipe, recipe.but(draft_length="gate")):
        made = one.decoder(**models)
        assert isinstance(made.lengths, TableLength)
        assert made.lengths.given == (COSTS, True)
        assert isinstance(made.drafter, ModelDrafter)
    # with a length of its own there is nothing to decide
    fixed = recipe.but(draft_length=2).decoder(**models)
    assert isinstance(fixed.lengths, FixedLength)
    assert not isinstance(fixed.lengths, TableLength)


@pytest.mark.usefixtures("gate")
def test_a_tree_with_costs() -> None:
    models = {"target": tiny_model(), "drafter": tiny_model(seed=1)}
    made = Recipe(drafter="x", tree="fixed(depth=2)", costs=COSTS).decoder(**models)
    assert isinstance(made.drafter, TreeDrafter)
    assert isinstance(made.lengths, TableLength)
    assert made.lengths.given == (COSTS, True)


@pytest.mark.usefixtures("gate")
def test_plain_decoding_needs_no_gate() -> None:
    made = Recipe(drafter="none", costs=COSTS).decoder(target=tiny_model())
    assert isinstance(made.drafter, NoDrafter)
    assert not isinstance(made.lengths, TableLength)


def test_models_are_loaded_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def from_pretrained(target: object, runtime: str = "auto", **parts: object) -> object:
        given.update(parts, target=target, runtime=runtime)
        return "a decoder"

    monkeypatch.setattr(module.Decoder, "from_pretrained", from_pretrained)
    recipe = Recipe("t", "d", None, 4, "block", "float32", "cpu", "eager", drafter_dtype="int8")
    assert recipe.decoder() == "a decoder"
    wanted = {"target": "t", "drafter": "d", "tree": None, "draft_length": 4, "verifier": "block"}
    wanted |= {"dtype": "float32", "drafter_dtype": "int8", "device": "cpu", "runtime": "eager"}
    wanted |= {"cache_policy": None, "drafter_cache_policy": None, "bitwise": False}
    assert given == wanted


@pytest.mark.usefixtures("threads")
def test_threads() -> None:
    Recipe(threads=2).set_threads()
    assert torch.get_num_threads() == 2
    Recipe().set_threads()
    assert torch.get_num_threads() == 2
