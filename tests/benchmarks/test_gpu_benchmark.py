import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

import gpu
import gpu_page
from budget import Parts, within
from outpace.bench import BenchPrompt, Models, Writing
from outpace.bench.methods import Method
from outpace.bench.sample import Sample
from synthetic import methods, pair, prompts
from turns import Turns

SCRIPT = Path(gpu.__file__).with_name("gpu.sh")
TEXTS = [BenchPrompt("own", str(number), str(number)) for number in range(3)]


def test_the_script_runs_on_a_cpu(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    words = ["--device", "cpu", "--shape", "tiny", "--tokens", "16", "--json", str(path)]
    # small matrices: a second thread costs more than it gives
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    done = subprocess.run(["bash", SCRIPT, *words], capture_output=True, text=True, env=alone)
    assert done.returncode == 0, done.stderr
    record = json.loads(path.read_text())
    assert [part for part in record["parts"].values() if part.keys() != {"seconds"}] == []
    assert {"hf", "hf-assisted@5", "eager plain", "eager draft@5"} <= set(record["samples"])
    assert record["dropped"] == {}
    assert record["repeats"] == 3
    assert not any(record["differences"].values())
    assert record["noise"]["bits_equal"]
    assert record["copy"]["bytes_per_second"] > 0
    assert "synthetic acceptance 0.75" in done.stdout
    assert "| greedy texts | identical |" in done.stdout


def test_a_device_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        gpu.main(["--device", "cuda:99", "--json", str(tmp_path / "gpu.json")])
    assert left.value.code == 2
    assert "cuda:99" in capsys.readouterr().err


def test_a_part_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    def fails() -> None:
        raise RuntimeError("no such kernel")

    record: dict[str, Any] = {}
    parts = Parts(60, tmp_path / "gpu.json", record)
    assert parts.run("first", fails) is None
    assert parts.run("second", lambda: 7) == 7
    assert record["parts"]["first"]["error"] == "RuntimeError: no such kernel"
    assert record["parts"]["second"].keys() == {"seconds"}
    assert json.loads((tmp_path / "gpu.json").read_text()) == record


def test_a_part_without_time_is_skipped(tmp_path: Path) -> None:
    record: dict[str, Any] = {}
    parts = Parts(0, tmp_path / "gpu.json", record)
    assert parts.run("late", lambda: 7) is None
    assert "used up" in record["parts"]["late"]["skipped"]


def test_what_takes_too_long_is_ended() -> None:
    with pytest.raises(TimeoutError, match="longer than 0 s"), within(0.01):
        for _ in count():
            pass
    with within(60):
        assert sum(range(10)) == 45


class Counting(Method):
    """Writes its own number, as often as it may."""

    def __init__(self, name: str, fails_after: int = 99) -> None:
        self.name, self.left = name, fails_after

    @contextmanager
    def ready(self) -> Iterator[None]:
        yield

    def write(self, prompt: BenchPrompt, writing: Writing) -> Sample:
        self.left -= 1
        if self.left < 0:
            raise torch.OutOfMemoryError("no memory")
        return Sample([1, 2, 3], 2.0, 1.0, 1, 2, 2, 0, 0, 0)

    def rows(self, prompt: BenchPrompt, writing: Writing) -> Any:
        raise AssertionError("texts are equal")


def test_a_method_that_fails_is_dropped_and_the_others_go_on() -> None:
    turns = Turns([Counting("good"), Counting("bad", 2)], TEXTS, Writing(3), lambda: 60.0)
    turns.run()
    figures = turns.as_dict()
    assert figures["repeats"] == 2
    assert list(figures["samples"]) == ["good"]
    assert figures["dropped"] == {"bad": "OutOfMemoryError: no memory"}
    assert figures["samples"]["good"][0]["tokens"] == 3
    assert figures["samples"]["good"][0]["tpot"] == 0.5


def test_turns_end_with_the_time() -> None:
    # two for the warm-up, two asked before the first turn and in it, then nothing is left
    clock = iter([60.0, 60.0, 60.0, 60.0, 60.0, 3.0])
    turns = Turns([Counting("one"), Counting("two")], TEXTS, Writing(3), lambda: next(clock))
    turns.run()
    assert turns.as_dict()["repeats"] == 1
    assert turns.dropped == {}


def test_no_time_at_all() -> None:
    turns = Turns([Counting("one")], TEXTS, Writing(3), lambda: 0.0)
    turns.run()
    assert turns.as_dict() == {
        "repeats": 0,
        "dropped": {"one": "no time was left"},
        "samples": {},
    }


@pytest.fixture(scope="module")
def both() -> Models:
    return pair("tiny", 0.75, "bfloat16", "cpu")


@pytest.fixture(scope="module")
def measured(both: Models) -> Turns:
    texts = prompts(both.target.vocabulary, 2, 6)
    turns = Turns(methods(both, ("hf", "plain")), texts, Writing(8), lambda: 60.0)
    turns.run()
    return turns


def test_equal_texts_have_no_differences(both: Models, measured: Turns) -> None:
    assert measured.differences(both.target) == {"hf": [], "plain": []}


def test_a_text_that_is_not_written_again_is_unclear(both: Models, measured: Turns) -> None:
    turns = copy.copy(measured)
    turns.samples = copy.deepcopy(measured.samples)
    turns.samples["plain"][0].tokens[3] += 1
    (found,) = turns.differences(both.target)["plain"]
    assert found["index"] == 3
    assert found["kind"] == "unclear"


def test_another_models_text_is_a_bug(both: Models, measured: Turns) -> None:
    other = pair("tiny", 0.75, "bfloat16", "cpu", seed=1)
    turns = Turns(
        [*measured.methods[:1], *methods(other, ("plain",))],
        measured.prompts,
        measured.writing,
        lambda: 60.0,
    )
    turns.run()
    (found,) = turns.differences(both.target)["plain"]
    assert found["kind"] == "bug"


def test_bytes_of_a_token(both: Models) -> None:
    read = gpu.bytes_per_token(both.target, 100)
    vocabulary, hidden, layers = 1024, 64, 2
    cache = 2 * layers * hidden * 100 * 2
    assert read == both.target.weight_bytes - 2 * vocabulary * hidden + 2 * hidden + cache
    assert read < gpu.bytes_per_token(both.target, 101)


def record() -> dict[str, Any]:
    """A record of one turn in which everything wanted is met."""

    def sample(seconds: float, tpot: float) -> dict[str, Any]:
        counts = {"drafted": 0, "accepted": 0, "forwards": 499, "emitted": 499}
        return {"tokens": 500, "seconds": seconds, "tpot": tpot, **counts}

    return {
        "environment": {"gpu": "a GPU"},
        "device": "cuda",
        "shape": "pythia-2.8b",
        "dtype": "float16",
        "acceptance": 0.75,
        "tokens": 500,
        "prompt_tokens": 64,
        "repeats": 1,
        "copy": {"bytes_per_second": 2e12},
        "bytes_per_token": 5e9,  # 2.5 ms
        "noise": {"bits_equal": True, "gumbel_equal": False, "gumbel_max_difference": 1e-6},
        "samples": {
            "hf": [sample(15.0, 0.03)],
            "hf-assisted@5": [sample(8.0, 0.016)],
            "graph plain": [sample(2.5, 0.005)],
            "compile plain": [sample(2.0, 0.004)],
            "compile draft@5": [sample(1.2, 0.0024)],
            "compile draft@gate": [sample(1.1, 0.0022)],
        },
        "differences": {"hf": [], "graph plain": [{"kind": "numerical"}]},
        "parts": {"texts": {"seconds": 1.0}},
    }


def test_what_is_wanted_is_met() -> None:
    figures = gpu_page.figures(record())
    assert all(one["met"] for one in figures), figures
    values = {one["what"]: one["value"] for one in figures}
    assert values["graph plain, share of the bandwidth bound"] == "50%"
    assert values["compile draft@5, times as fast as hf-assisted@5"].startswith("6.67")


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"copy": {"bytes_per_second": 4e12}}, {"graph plain,", "compile plain,"}),
        ({"copy": None}, {"graph plain,", "compile plain,"}),
        ({"differences": {"hf": [{"kind": "bug"}]}}, {"greedy texts"}),
        ({"differences": {}}, {"greedy texts"}),
        ({"noise": None}, {"bits of", "the noise"}),
        (
            {"noise": {"bits_equal": False, "gumbel_equal": False, "gumbel_max_difference": 1.0}},
            {"bits of", "the noise"},
        ),
    ],
)
def test_what_is_not_met(changes: dict[str, Any], missed: set[str]) -> None:
    figures = gpu_page.figures(record() | changes)
    wrong = [one["what"] for one in figures if not one["met"]]
    assert len(wrong) == len(missed)
    assert all(any(what.startswith(start) for start in missed) for what in wrong)


def test_the_page_says_what_failed_and_why() -> None:
    made = record() | {"dropped": {"graph draft@5": "OutOfMemoryError: no memory"}}
    made["parts"]["compile"] = {"seconds": 150.0, "error": "TimeoutError: too long"}
    page = gpu_page.page(made)
    assert "- compile (150 s): TimeoutError: too long" in page
    assert "- graph draft@5: OutOfMemoryError: no memory" in page
    assert "on a GPU, float16, 500 new tokens" in page
    assert "- compile" not in gpu_page.page(record())
