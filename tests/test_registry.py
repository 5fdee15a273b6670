"""Names of methods."""

import subprocess
import sys
from importlib import metadata

import pytest

from outpace import registry
from outpace.drafters.none import NoDrafter
from outpace.errors import UnknownName


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
