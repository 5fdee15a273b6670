"""The raw records of a study: one line of JSON for everything that is known, kept at once.

A line is written whole and forced to the disk before the next text begins, so that neither Ctrl-C
nor a crash nor a power cut loses a text that was finished. What a crash may leave is a last line
that is cut short: it is cut off, and said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ...errors import InvalidArgument
from ...types import Round
from ..differences import Difference
from ..keeping import Keeping
from ..measured import Asked, Facts, Key, Measured, text_hash
from ..rounds import as_turns
from ..sample import Gaps, Sample

FILE = "records.jsonl"
FORMAT = 1
"""Of the records; a later one is refused."""
Line = dict[str, Any]
_SHOWN = 128
"""Rounds of a text that are kept to be drawn."""


class Journal:
    """The file of records in the folder of a study.

    Args:
        folder: of the study.

    Attributes:
        lines: all that is recorded.
        repaired: whether a last line had to be cut off.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.lines: list[Line] = []
        self.repaired = False
        self._file: int | None = None

    def read(self) -> Journal:
        """Read all lines, without those a crash cut short.

        Raises:
            InvalidArgument: there are none, or one in the middle cannot be read.
        """
        try:
            raw = self.path.read_bytes()
        except OSError as error:
            raise InvalidArgument(
                f"{self.path.parent}: no {FILE} that can be read ({error.strerror}): give the "
                "folder of a study"
            ) from error
        whole, _, rest = raw.rpartition(b"\n")
        self.repaired = bool(rest)
        self.lines = []
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                value = json.loads(line)
                known = isinstance(value, dict) and "kind" in value
            except ValueError:
                known = False
            if not known:
                raise InvalidArgument(
                    f"{self.path}, line {number} is no record: take that line out, or begin again "
                    "in another folder"
                )
            self.lines.append(value)
        return self

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep the file open to write, alone, after what was cut short is cut off."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _lock(file, self.path)
            if self.repaired:
                size = os.fstat(file).st_size
                raw = os.pread(file, size, 0) if hasattr(os, "pread") else self.path.read_bytes()
                os.ftruncate(file, raw.rfind(b"\n") + 1)
            self._file = file
            yield
        finally:
            self._file = None
            os.close(file)

    def add(self, kind: str, **values: Any) -> None:
        """Write one line, so that it stays whatever happens next."""
        assert self._file is not None
        line = {"kind": kind, **values}
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
        data = text.encode("utf-8", "surrogatepass") + b"\n"
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)
        self.lines.append(line)

    def of(self, kind: str, **values: Any) -> list[Line]:
        """Return the lines of a kind with these values."""
        wanted = {"kind": kind, **values}
        return [line for line in self.lines if all(line.get(key) == wanted[key] for key in wanted)]

    @property
    def holds_figures(self) -> bool:
        """Whether anything was measured."""
        return any(line["kind"] in {"cell", "scored"} for line in self.lines)

    @property
    def runs(self) -> int:
        """How often the study was begun or taken up again."""
        return len(self.of("run"))

    def measured(self, setting: str, methods: Collection[str] | None = None) -> Measured | None:
        """Return what there is of a setting; None where nothing is.

        Args:
            setting: its id.
            methods: those to look at; the file of a study may have lost some since.
        """
        heads = self.of("setting", id=setting)
        if not heads:
            return None
        head = heads[0]
        asked = Asked(
            [(a, b) for a, b in head["texts"]], head["sha256"], head["cut"], head.get("note")
        )
        done = Measured(head["reference"], asked, head["repeats"])
        done.samples = {name: {} for name in head["methods"]}
        texts = {line["id"]: line["tokens"] for line in self.of("text")}
        for line in self.lines:
            if line.get("setting") == setting:
                _put(done, line, texts)
        if methods is not None:
            for known in (done.samples, done.methods, done.unusable, done.differences):
                for name in known.keys() - set(methods):
                    del known[name]
        done.judged = set(done.differences) >= {
            name for name in done.usable if name in done.methods and done.methods[name].reference
        }
        return done


class Recorder(Keeping):
    """Writes down all there is to know of one setting.

    Args:
        journal: where, open to write.
        setting: its id.
        run: which run of the study this is.
        axes: what a study varied of each method.
        text: from token id to its text.
        draws: whether to keep the rounds of texts, to draw them.
    """

    def __init__(
        self,
        journal: Journal,
        setting: str,
        run: int,
        axes: Mapping[str, Mapping[str, Any]],
        text: Callable[[int], str],
        *,
        draws: bool = True,
    ) -> None:
        self.journal, self.setting, self.run = journal, setting, run
        self.axes, self.text, self.draws = axes, text, draws
        self.goes_on = True
        self._texts = {line["id"] for line in journal.of("text")}

    def method(self, facts: Facts) -> None:
        """Write down what is known of a method."""
        facts.axes = dict(self.axes.get(facts.name, {}))
        self._add("method", **asdict(facts))

    def unusable(self, name: str, why: str) -> None:
        """Write down that a method has no figures."""
        self._add("unusable", method=name, why=why)

    def sample(self, name: str, key: Key, sample: Sample, *, anchor: bool = False) -> None:
        """Write down one text: its tokens first, once for all methods that write them."""
        text = text_hash(sample.tokens)
        if text not in self._texts:
            self.journal.add("text", id=text, tokens=sample.tokens)
            self._texts.add(text)
        values = asdict(sample)
        values["tokens"] = text
        kind = "anchor" if anchor else "cell"
        self._add(kind, method=name, prompt=key[0], repeat=key[1], **values)

    def rounds(self, name: str, prompt: int, rounds: Sequence[Round], began: float) -> None:
        """Write down the rounds of a text."""
        if not self.draws:
            return
        turns = as_turns(rounds[:_SHOWN], began, self.text)
        self._add("rounds", method=name, prompt=prompt, turns=turns, count=len(rounds))

    def drafts(self, name: str, prompt: int, drafts: Sequence[Any]) -> None:
        """Write down what was drafted for a text that differs."""
        self._add("drafts", method=name, prompt=prompt, drafts=drafts)

    def differences(self, name: str, found: Sequence[Difference]) -> None:
        """Write down where the texts of a method differ, and why."""
        self._add("differences", method=name, found=[asdict(one) for one in found])

    def surprise(self, prompt: int, text: str, nats: float | None) -> None:
        """Write down how improbable a text is."""
        self._add("surprise", prompt=prompt, text=text, nats=nats)

    def drift(self, first: float, last: float) -> None:
        """Write down what became of the baseline."""
        self._add("drift", first=first, last=last)

    def _add(self, kind: str, **values: Any) -> None:
        self.journal.add(kind, **{"setting": self.setting, "run": self.run, **values})


def _put(done: Measured, line: Line, texts: Mapping[str, list[int]]) -> None:
    """Put one line where it belongs."""
    kind, name = line["kind"], line.get("method", "")
    if kind == "method":
        known = {one.name: line[one.name] for one in fields(Facts) if one.name in line}
        facts = Facts(**known)
        facts.memory = None if facts.memory is None else (facts.memory[0], facts.memory[1])
        done.methods[facts.name] = facts
        done.samples.setdefault(facts.name, {})
        done.unusable.pop(facts.name, None)
    elif kind in {"cell", "anchor"}:
        key = (line["prompt"], line["repeat"])
        sample = _sample(line, texts)
        if kind == "anchor":
            done.anchors[name, key, sample.run] = sample
        else:
            done.samples.setdefault(name, {})[key] = sample
    elif kind == "drafts":
        done.drafts[name, line["prompt"]] = line["drafts"]
    elif kind == "unusable":
        done.unusable[name] = line["why"]
    elif kind == "differences":
        done.differences[name] = [Difference(**one) for one in line["found"]]
    elif kind == "surprise":
        done.surprise[line["prompt"], line["text"]] = line["nats"]
    elif kind == "drift":
        done.drift.append((line["first"], line["last"]))


def _sample(line: Line, texts: Mapping[str, list[int]]) -> Sample:
    values = {one.name: line[one.name] for one in fields(Sample) if one.name in line}
    values["tokens"] = list(texts[line["tokens"]])
    gaps = values.get("gaps")
    values["gaps"] = None if gaps is None else Gaps(**gaps)
    return Sample(**values)


def _lock(file: int, path: Path) -> None:
    """Refuse a file that another process writes: the lines of both would be of no study."""
    try:
        import fcntl
    except ImportError:  # no such thing there
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InvalidArgument(
            f"{path.parent}: another process is writing this study: wait for it, or give another "
            "--out"
        ) from error
