"""What rounds cost: measured once, kept in a file."""

import json

import pytest

from outpace.drafters import staircase as module
from outpace.drafters.staircase import round_costs, staircase
from outpace.folders import CACHE_VARIABLE
from outpace.models.tiny import tiny_model

STEPS = {1: 1.0, 2: 1.0, 4: 1.5, 8: 2.0, 16: 3.0, 32: 5.0, 64: 7.3}


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """How often a model was measured; nothing is, and nothing is known before."""
    calls = []

    def fake(model, **settings):
        calls.append(model)
        return dict(STEPS)

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(module, "forward_costs", fake)
    monkeypatch.setattr(module, "draft_costs", lambda model, **settings: {1: 1.0, 4: 3.4})
    monkeypatch.setattr(module, "feed_costs", lambda model, **settings: {1: 1.0, 64: 7.3})
    monkeypatch.setattr(module, "_known", {})
    return calls


def forget(monkeypatch):
    monkeypatch.setattr(module, "_known", {})


def test_a_model_is_measured_once_and_kept(measured, monkeypatch, tmp_path):
    model = tiny_model()
    assert staircase(model) == staircase(model) == STEPS
    forget(monkeypatch)  # another process
    assert staircase(model) == STEPS
    assert len(measured) == 1
    assert len(list(tmp_path.rglob("*.json"))) == 1


def test_a_width_that_was_disturbed_costs_no_more_than_a_wider_one(measured, monkeypatch):
    monkeypatch.setitem(STEPS, 4, 9.0)
    assert staircase(tiny_model()) == {**STEPS, 4: 2.0}


def test_another_runtime_is_another_measurement(measured):
    model = tiny_model()
    staircase(model)
    model._runtime.name = "compile"
    staircase(model)
    assert len(measured) == 2


@pytest.mark.parametrize("text", ["", "[]", '{"1": 1.0}', '{"one": 1}', '{"1": -1}'])
def test_a_file_that_is_broken_is_written_anew(measured, monkeypatch, tmp_path, text):
    model = tiny_model()
    staircase(model)
    (file,) = tmp_path.rglob("*.json")
    file.write_text(text)
    forget(monkeypatch)
    assert staircase(model) == STEPS
    assert len(measured) == 2
    assert json.loads(file.read_text())["64"] == 7.3


def test_a_folder_that_cannot_be_written_to_is_no_error(measured, monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(blocked))
    assert staircase(tiny_model()) == STEPS


def test_costs_of_a_draft_lie_on_a_line(measured):
    costs = round_costs(tiny_model(), [tiny_model(seed=1)])
    assert costs.verifying == STEPS
    assert [costs.draft(length) for length in (0, 1, 5)] == pytest.approx([0.0, 1.0, 4.2])
    assert costs.catching_up == pytest.approx(0.1)
    assert round_costs(tiny_model(), ()).draft(9) == 0
