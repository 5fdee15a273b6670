import random
from pathlib import Path
from typing import Any

import pytest

import length
from outpace.models.tiny import tiny_model

SLOTS = (256, 512, 1024, 2048)


def law(seconds: dict[int, float], *, wobble: float = 0.01) -> Any:
    """The law of ten rounds about these times."""
    times = {
        str(slots): [one * (1 + wobble * (turn % 3 - 1)) for turn in range(9)]
        for slots, one in seconds.items()
    }
    return length.cost_law(times)


def test_a_line_is_found() -> None:
    found = law({slots: 5e-3 + 1e-6 * slots for slots in SLOTS})
    assert found["fixed"] == pytest.approx(5e-3)
    assert found["per_slot"] == pytest.approx(1e-6)
    assert max(map(abs, found["residuals"].values())) < 1e-6
    assert abs(found["curve"]["share"]) < 1e-6
    assert found["superlinear"] == "no"


def test_a_curve_is_found() -> None:
    found = law({slots: 5e-3 + 1e-6 * slots + 1e-9 * slots**2 for slots in SLOTS})
    assert found["superlinear"] == "yes"
    assert found["curve"]["low"] <= found["curve"]["share"] <= found["curve"]["high"]
    total = 5e-3 + 1e-6 * 2048 + 1e-9 * 2048**2
    assert found["curve"]["share"] == pytest.approx(1e-9 * 2048**2 / total)


def test_noise_is_no_finding() -> None:
    noise = random.Random(0)
    times = {
        str(slots): [(5e-3 + 1e-6 * slots) * noise.uniform(0.5, 2) for _ in range(5)]
        for slots in SLOTS
    }
    assert length.cost_law(times)["superlinear"] == "unsure"


def test_rounds_read_as_many_slots_as_they_say() -> None:
    model = tiny_model(context_length=512)
    seen: list[tuple[int, int]] = []
    forward = model.forward

    def watched(tokens: Any, *given: Any, **settings: Any) -> Any:
        seen.append((len(tokens), given[4]))
        return forward(tokens, *given, **settings)

    sessions = {slots: length.filled(model, slots) for slots in (128, 256)}
    model.forward = watched  # type: ignore[method-assign]
    for session in sessions.values():
        before = len(session)
        for width in length.WIDTHS:
            assert length.forward_seconds(session, width) > 0
            assert len(session) == before
    assert seen == [(1, 128), (8, 128), (1, 256), (8, 256)]


def test_the_page_and_the_picture(tmp_path: Path) -> None:
    record = length.made(tiny_model(context_length=1024), (128, 256, 512), 2)
    assert record["kv_bytes"]["512"] == 4 * record["kv_bytes"]["128"]
    text = length.page(record)
    assert "Memory a slot is constant: 256 to 256 bytes." in text
    assert text.count("- Width") == 2
    length.draw(record, tmp_path / "length.png")
    assert (tmp_path / "length.png").stat().st_size > 1000
    record["kv_bytes"]["512"] *= 2
    assert "Memory a slot is NOT constant" in length.page(record)


def test_the_model_has_the_shape_of_the_target() -> None:
    model = length.model_for(4096)
    assert model.context_length == 4096
    assert model.config.num_hidden_layers == 6
    assert model.precision == "bfloat16"
