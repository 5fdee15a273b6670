import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from outpace.bench.differences import Difference
from outpace.bench.measured import Facts, Measured, text_hash
from outpace.bench.sample import Gaps, Sample
from outpace.bench.studies.journal import FILE, Journal, Recorder
from outpace.errors import InvalidArgument

HEAD: dict[str, Any] = {
    "id": "a[]#1",
    "run": 1,
    "methods": ["hf", "draft@2"],
    "reference": "hf",
    "repeats": 2,
    "texts": [["pg19", "one"], ["songs", "zwei – 東"]],
    "sha256": "0" * 64,
    "cut": 3,
}


def sample(*tokens: int, run: int = 1, **more: Any) -> Sample:
    return Sample(list(tokens), 1.25, 0.5, 1, 3, 6, 10, 4, 99, run=run, **more)


def written(folder: Path, **add: Any) -> Journal:
    journal = Journal(folder)
    with journal.writing():
        journal.add("setting", **HEAD)
        for number in range(3):
            journal.add("note", number=number, text="ä\n\ud800", **add)
    return journal


def test_lines_survive(tmp_path: Path) -> None:
    before = written(tmp_path)
    after = Journal(tmp_path).read()
    assert after.lines == json.loads(json.dumps(before.lines))
    assert not after.repaired
    assert [line["number"] for line in after.of("note")] == [0, 1, 2]
    assert after.of("note", number=1)[0]["text"] == "ä\n\ud800"
    assert after.of("note", number=7) == []


def test_every_line_is_there_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with journal.writing():
        for number in range(3):
            journal.add("note", number=number)
            assert len(Journal(tmp_path).read().lines) == number + 1


@pytest.mark.parametrize("cut", [1, 2, 10])
def test_a_last_line_that_was_cut_short_is_left_out(tmp_path: Path, cut: int) -> None:
    written(tmp_path)
    file = tmp_path / FILE
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    journal = Journal(tmp_path).read()
    assert journal.repaired
    assert [line["number"] for line in journal.of("note")] == [0, 1]
    assert file.read_bytes() == whole[:-cut]  # reading alone changes nothing
    with journal.writing():
        journal.add("note", number=5)
    kept = whole[: whole[:-1].rfind(b"\n") + 1]
    assert file.read_bytes() == kept + b'{"kind":"note","number":5}\n'
    again = Journal(tmp_path).read()
    assert not again.repaired
    assert [line["number"] for line in again.of("note")] == [0, 1, 5]


def test_a_first_line_that_was_cut_short(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b'{"kind":"se')
    journal = Journal(tmp_path).read()
    assert journal.repaired
    assert journal.lines == []
    with journal.writing():
        journal.add("note")
    assert (tmp_path / FILE).read_bytes() == b'{"kind":"note"}\n'


@pytest.mark.parametrize("broken", [b'{"kind":"no', b"", b"[]", b"\xff\xfe", b"{}", b"3"])
def test_a_broken_line_in_the_middle_is_refused(tmp_path: Path, broken: bytes) -> None:
    written(tmp_path)
    file = tmp_path / FILE
    lines = file.read_bytes().splitlines()
    lines[2] = broken
    file.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(InvalidArgument, match="line 3 is no record: take that line out, or begin"):
        Journal(tmp_path).read()


def test_no_records(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=rf"no {FILE} that can be read .*give the folder"):
        Journal(tmp_path).read()
    with pytest.raises(InvalidArgument, match="give the folder of a study"):
        Journal(tmp_path / "nothing").read()


def test_two_cannot_write_at_once(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    code = (
        "import sys; from pathlib import Path\n"
        "from outpace.bench.studies.journal import Journal\n"
        "with Journal(Path(sys.argv[1])).writing():\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with (
            pytest.raises(InvalidArgument, match="another process is writing this study: wait"),
            Journal(tmp_path).writing(),
        ):
            pass
        other.communicate()
    with Journal(tmp_path).writing():  # as soon as it is gone
        pass


def test_reading_needs_no_lock(tmp_path: Path) -> None:
    journal = written(tmp_path)
    with journal.writing():
        assert len(Journal(tmp_path).read().lines) == 4


def recorded(folder: Path, *, run: int = 1) -> tuple[Journal, Recorder]:
    journal = Journal(folder)
    if run > 1:
        journal.read()
    axes = {"draft@2": {"K": 2, "template": "draft@{K}"}}
    return journal, Recorder(journal, "a[]#1", run, axes, str)


def read(folder: Path) -> Measured:
    done = Journal(folder).read().measured("a[]#1")
    assert done is not None
    return done


def test_all_that_is_measured_comes_back(tmp_path: Path) -> None:
    journal, keeping = recorded(tmp_path)
    rich = sample(
        *(5, 6, 7),
        gaps=Gaps(0.1, 0.2, 0.3),
        answers=[2, 1],
        waits=[0.25],
        offered=[3, 2],
        kept=[2, 0],
        drafting=0.125,
        verifying=0.5,
        drafter_forwards=9,
        store_bytes=11,
        drafter_kv_bytes=13,
    )
    bare = sample(5, 6, 7)
    facts = Facts("draft@2", True, "hf", {"tree": {"depth": 3}}, {"a": 1, "b": 2}, (9, 4), 0.75)
    near = Difference(1, 2, 7, 8, "numerical", 0.125, 0.25)
    with journal.writing():
        journal.add("setting", **HEAD)
        keeping.method(Facts("hf", reference="hf"))
        keeping.method(facts)
        keeping.sample("hf", (0, 0), bare)
        keeping.sample("draft@2", (0, 0), rich)
        keeping.differences("draft@2", [near])
        keeping.differences("hf", [])
        keeping.surprise(0, text_hash(rich.tokens), 1.5)
        keeping.drift(1.0, 2.0)
        keeping.unusable("tree", "out of memory")
        keeping.rounds("draft@2", 0, [], 0.0)
    done = read(tmp_path)
    assert done.samples["hf"] == {(0, 0): bare}
    assert done.samples["draft@2"] == {(0, 0): rich}
    assert done.methods["draft@2"] == facts
    assert done.methods["draft@2"].axes == {"K": 2, "template": "draft@{K}"}
    assert done.differences == {"draft@2": [near], "hf": []}
    assert done.surprise == {(0, text_hash([5, 6, 7])): 1.5}
    assert done.drift == [(1.0, 2.0)]
    assert done.unusable == {"tree": "out of memory"}
    assert (done.repeats, done.reference, done.asked.cut) == (2, "hf", 3)
    assert done.asked.texts == [("pg19", "one"), ("songs", "zwei – 東")]
    assert done.judged


def test_a_text_is_written_once_for_all(tmp_path: Path) -> None:
    journal, keeping = recorded(tmp_path)
    with journal.writing():
        journal.add("setting", **HEAD)
        keeping.sample("hf", (0, 0), sample(1, 2))
        keeping.sample("draft@2", (0, 0), sample(1, 2))
        keeping.sample("hf", (1, 0), sample(1, 3))
    journal, keeping = recorded(tmp_path, run=2)
    with journal.writing():
        keeping.sample("draft@2", (1, 0), sample(1, 3, run=2))
    assert [line["tokens"] for line in journal.of("text")] == [[1, 2], [1, 3]]
    assert read(tmp_path).samples["draft@2"][1, 0].tokens == [1, 3]


def test_anchors_stand_beside_the_texts_of_their_run(tmp_path: Path) -> None:
    journal, keeping = recorded(tmp_path)
    with journal.writing():
        journal.add("setting", **HEAD)
        keeping.sample("hf", (0, 0), sample(1, 2))
    journal, keeping = recorded(tmp_path, run=2)
    late, anchor = sample(1, 2, run=2), sample(1, 2, run=2, waits=[9.0])
    with journal.writing():
        keeping.sample("draft@2", (0, 0), late)
        keeping.sample("hf", (0, 0), anchor, anchor=True)
    done = read(tmp_path)
    assert done.anchors == {("hf", (0, 0), 2): anchor}
    assert done.samples["hf"][0, 0].run == 1  # an anchor takes no text's place
    assert done.beside("draft@2", (0, 0)) == anchor
    assert done.beside("hf", (0, 0)).run == 1
    assert done.unpaired == 0


def test_a_method_that_came_later_is_no_longer_missing(tmp_path: Path) -> None:
    journal, keeping = recorded(tmp_path)
    with journal.writing():
        journal.add("setting", **HEAD)
        keeping.unusable("draft@2", "missing")
        assert journal.measured("a[]#1").unusable  # type: ignore[union-attr]
        keeping.method(Facts("draft@2", reference="hf"))
    done = read(tmp_path)
    assert done.unusable == {}
    assert not done.judged  # nobody has compared it yet


def test_settings_are_kept_apart(tmp_path: Path) -> None:
    journal, keeping = recorded(tmp_path)
    other = Recorder(journal, "b[]#2", 1, {}, str)
    with journal.writing():
        journal.add("setting", **HEAD)
        journal.add("setting", **{**HEAD, "id": "b[]#2"})
        keeping.sample("hf", (0, 0), sample(1, 2))
        other.sample("hf", (1, 1), sample(1, 2))
    assert list(read(tmp_path).samples["hf"]) == [(0, 0)]
    assert journal.measured("c[]#3") is None
