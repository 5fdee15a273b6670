"""The tables of docs/presets.md are those of the program."""

from pathlib import Path

import preset_memory

PAGE = Path(__file__).resolve().parents[2] / "docs" / "presets.md"


def test_the_page_has_the_tables() -> None:
    known = preset_memory.outlines()
    # as published
    assert {name: one.parameters for name, one in known.items()} == {
        "Pythia 2.8B": 2_775_208_960,
        "Pythia 70M": 70_426_624,
        "Llama 3.2 3B": 3_212_749_824,
        "Llama 3.2 1B": 1_235_814_400,
    }
    page = PAGE.read_text(encoding="utf-8")
    for target, drafter in preset_memory.PAIRS:
        assert preset_memory.table(known, target, drafter) in page


def test_what_the_page_says_of_hopes() -> None:
    known = preset_memory.outlines()
    pythia, llama = preset_memory.PAIRS
    short = preset_memory.of(known, "short", *pythia, 128)
    assert short.weights < 5.6e9 < short.total < 5.6 * 2**30
    long, longer = (preset_memory.of(known, "long", *pythia, new) for new in (1920, 100_000))
    assert long == longer
    assert preset_memory.of(known, "least-memory", *pythia, 100_000).total < 4e9
    assert preset_memory.of(known, "least-memory", *llama, 128).total > 4 * 2**30
    assert preset_memory.of(known, "least-memory", *pythia, 128).loading > 4 * 2**30
