"""Names of methods."""

import subprocess
import sys
from importlib import metadata

import pytest

from outpace import registry
from outpace.compose import make_drafter
from outpace.drafters.none import NoDrafter
from outpace.errors import EntryPointError, UnknownName


def test_every_name_leads_to_its_class():
    for kind in ("drafter", "verifier", "lengths"):
        for name in registry.names(kind):
            assert isinstance(registry.get(kind, name), type)


def test_other_packages_add_methods_by_entry_points(monkeypatch):
    point = metadata.EntryPoint("mine", "outpace.drafters.none:NoDrafter", "outpace.drafters")
    taken = metadata.EntryPoint("ngram", "outpace.drafters.none:NoDrafter", "outpace.drafters")

    def entry_points(*, group):
        return [point, taken] if group == "outpace.drafters" else []

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert "mine" in registry.names("drafter")
    assert registry.get("drafter", "mine") is NoDrafter
    assert registry.get("drafter", "ngram") is not NoDrafter  # a built-in name is not taken over


def test_unknown_names_say_what_there_is():
    with pytest.raises(UnknownName, match="unknown verifier 'coupeld'") as refusal:
        registry.get("verifier", "coupeld")
    assert "did you mean 'coupled'" in str(refusal.value)
    assert "coupled, rejection" in str(refusal.value)
    assert registry.find("drafter", "nothing") is None


def test_asking_for_names_imports_nothing_heavy():
    code = (
        "import sys, outpace, outpace.registry as r; r.names('drafter'); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("place", "code", "why"),
    [
        ("nowhere_at_all:Mine", "", "cannot be loaded (ModuleNotFoundError: No module named"),
        ("own_module:Gone", "x = 1", "cannot be loaded (AttributeError: "),
        ("own_module:x", "x = 1", "is no {base} class"),
        ("own_module:Mine", "class Mine: ...", "is no {base} class"),
        ("own_module", "", "is no {base} class"),
        ("own_module:Mine", "1 / 0", "cannot be loaded (ZeroDivisionError: division by zero)"),
        ("own_module:Mine", "def", "cannot be loaded (SyntaxError: "),
        ("not a place", "", "cannot be loaded ("),
    ],
)
@pytest.mark.parametrize("kind", ["drafter", "verifier", "lengths"])
def test_a_broken_package_is_named_and_disturbs_nobody_else(install, kind, place, code, why):
    base = registry._BASES[kind].partition(":")[2]
    install("acme-tools", registry._GROUPS[kind], {"mine": place}, own_module=code)
    before = set(sys.modules)
    assert "mine" in registry.names(kind)
    assert "own_module" not in set(sys.modules) - before
    with pytest.raises(EntryPointError) as refusal:
        registry.get(kind, "mine")
    said = str(refusal.value)
    assert f"{registry.WORDS[kind]} 'mine', the entry point {place} of acme-tools 0.1.0" in said
    assert why.format(base=base) in said
    assert said.endswith("reinstall that package, or remove it")
    assert "\n" not in said
    for name in set(registry.names(kind)) - {"mine"}:
        assert registry.get(kind, name)


def test_two_packages_with_one_name(install):
    place = "outpace.drafters.none:NoDrafter"
    install("acme", "outpace.drafters", {"mine": place, "alone": place})
    install("other", "outpace.drafters", {"mine": "outpace.drafters.ngram:NgramDrafter"})
    assert registry.names("drafter").count("mine") == 1
    assert registry.get("drafter", "alone") is NoDrafter
    for _ in range(2):
        with pytest.raises(EntryPointError) as refusal:
            registry.get("drafter", "mine")
        assert str(refusal.value) == (
            "drafter 'mine' is in other 0.1.0 (outpace.drafters.ngram:NgramDrafter) and acme 0.1.0 "
            "(outpace.drafters.none:NoDrafter): remove one of them"
        )


def test_a_constructor_of_a_package_that_fails(install):
    code = """
from outpace import Drafter

class Mine(Drafter):
    def __init__(self, size: int = 1) -> None:
        raise TypeError(f"unhappy with {size}\\nbecause")

    def propose(self, context, budget, drawing): ...
"""
    install("acme", "outpace.drafters", {"mine": "own_module:Mine"}, own_module=code)
    with pytest.raises(EntryPointError) as refusal:
        make_drafter("mine(size=3)")
    assert str(refusal.value) == (
        "drafter 'mine', the entry point own_module:Mine of acme 0.1.0, cannot be made (TypeError: "
        "unhappy with 3): reinstall that package, or remove it"
    )


def test_a_package_without_metadata(install, tmp_path):
    install("acme", "outpace.drafters", {"mine": "gone:Mine"})
    (tmp_path / "packages" / "acme-0.1.0.dist-info" / "METADATA").unlink()
    with pytest.raises(EntryPointError, match="gone:Mine of a package without metadata"):
        registry.get("drafter", "mine")
