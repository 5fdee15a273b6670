"""Every study that comes with Outpace runs in its quick form, on the embedded models."""

import csv
import re
from pathlib import Path

import pytest
from commandline import Run
from studies import cells, lines

from outpace.bench.alone import run as here
from outpace.bench.studies import Study, study_names
from outpace.data import data_root

ASKS = re.compile(r"""(?:src|href)\s*=\s*(?!["']?(?:#|data:))|url\((?!["']?(?:#|data:))|@import""")

pytestmark = pytest.mark.skipif(
    data_root() is None, reason="no evaluation text: OUTPACE_DATA names a folder with data/"
)


@pytest.fixture(autouse=True)
def tuned_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try 1 setting of transformers' assisted generation; all 36 are tried by a test of theirs."""
    monkeypatch.setattr("outpace.bench.baselines.TUNED_LENGTHS", range(3, 4))
    monkeypatch.setattr("outpace.bench.baselines.TUNED_THRESHOLDS", (0.4,))
    # in this process: starting others, which tests of theirs do, takes most of the time
    monkeypatch.setattr("outpace.bench.studies.precisions.alone", here)


@pytest.mark.parametrize("name", study_names())
def test_it_runs(run: Run, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    # processors without instructions for bfloat16 take many times as long in it
    options = {"runtime": "eager", "dtype": "float32"}
    # the smaller of the pair: what is written matters to no study, and takes most of the time
    options |= {"target": "zoo:large", "drafter": "zoo:small"}
    words = [word for one, value in options.items() for word in (f"--{one}", value)]
    ran = run("study", name, "--quick", *words, "--out", folder)
    assert ran.code == 0, ran.err
    study = Study.read(name, quick=True, options=options)
    assert len(set(cells(folder))) == len(cells(folder))
    assert {line["id"] for line in lines(folder, "setting")} == {s.id for s in study.settings()}
    assert lines(folder, "end")
    wrong = [
        line
        for line in lines(folder, "differences")
        for one in line["found"]
        if one["kind"] in {"bug", "unclear"}
    ]
    assert wrong == []
    page = (folder / "report.html").read_text()
    assert not ASKS.search(page)
    assert study.title in page
    for part in study.parts:
        for table in part.tables:
            stem = f"{part.name}-{table['name']}"
            with (folder / f"{stem}.csv").open() as file:
                assert list(csv.DictReader(file))
            assert "\\bottomrule" in (folder / f"{stem}.tex").read_text()
        for picture in part.pictures:
            assert (folder / f"{part.name}-{picture['name']}.png").stat().st_size > 1000
    assert not lines(folder, "unusable")  # every cell is filled


def test_what_asks_a_server_is_found() -> None:
    for bad in ('<img src="https://a.b/c.png">', "<style>@import 'x'</style>", "url(https://a)"):
        assert ASKS.search(bad)
    assert not ASKS.search('<use href="#a"/><link href="data:,"> fill: url(#p)')
