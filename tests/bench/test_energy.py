import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from outpace.bench import Bench, BenchPrompt, Models, Writing, environment, make_method, make_record
from outpace.bench.energy import meter
from outpace.bench.figures import figures

CUDA = torch.device("cuda", 0)


class Board:
    """A stand-in for the driver: its counter in millijoules, and what it was asked."""

    def __init__(self) -> None:
        self.counter, self.asked, self.waited = 12_345, list[Any](), 0


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    found = Board()
    module: Any = ModuleType("pynvml")
    module.nvmlInit = lambda: found.asked.append("init")

    def handle(uuid: str) -> str:
        found.asked.append(uuid)
        return "the board"

    def counter(handle: str) -> int:
        assert handle == "the board"
        assert found.waited  # work that is still running is not counted yet
        return found.counter

    def wait(device: torch.device) -> None:
        found.waited += 1

    module.nvmlDeviceGetHandleByUUID, module.nvmlDeviceGetTotalEnergyConsumption = handle, counter
    monkeypatch.setitem(sys.modules, "pynvml", module)
    properties = SimpleNamespace(uuid="1234-abcd")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    return found


def test_a_processor_has_no_counter(board: Board) -> None:
    assert meter(torch.device("cpu")) is None
    assert not board.asked


def test_it_reads_joules_of_the_board_that_torch_means(board: Board) -> None:
    read = meter(CUDA)
    assert read is not None
    assert board.asked == ["init", "GPU-1234-abcd"]
    assert read() == 12.345
    board.counter += 2_500
    waited = board.waited
    assert read() == pytest.approx(14.845)
    assert board.waited == waited + 1


@pytest.mark.parametrize(
    "lacking", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTotalEnergyConsumption"]
)
def test_whatever_fails_there_is_none(
    board: Board, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DriverError(Exception):
        pass

    def fails(*given: Any) -> None:
        raise DriverError("Not Supported")

    assert meter(CUDA) is not None
    monkeypatch.setattr(sys.modules["pynvml"], lacking, fails)
    assert meter(CUDA) is None


def test_without_the_package_or_a_gpu_there_is_none(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace())
    assert meter(CUDA) is None  # a torch that does not tell which board it is
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert meter(CUDA) is None


def test_a_run_counts_what_each_text_takes(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter(range(0, 10_000, 6))  # six joules between two readings
    monkeypatch.setattr("outpace.bench.runner.meter", lambda device: lambda: float(next(readings)))
    methods = [make_method(name, models, 3) for name in ("hf", "plain")]
    bench = Bench(models, methods, prompts, Writing(12), repeats=2)
    done = bench.run()
    for name in ("hf", "plain"):
        assert {one.joules for one in done.samples[name].values()} == {6.0}
        assert figures(done, name, done.keys)["joules_per_token"] == 0.5
    record = make_record(done, {"target": "tiny"}, environment())
    assert [one["joules_per_token"] for one in record["results"]] == [0.5, 0.5]
    done.samples["plain"][0, 0].joules = None  # one that is not known leaves no figure
    assert figures(done, "plain", done.keys)["joules_per_token"] is None


def test_a_run_without_a_counter_has_no_figure(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("outpace.bench.runner.meter", asked.append)
    bench = Bench(models, [make_method("hf", models, 3)], prompts[:1], Writing(4))
    done = bench.run()
    assert asked == [torch.device("cpu")]
    record = make_record(done, {"target": "tiny"}, environment())
    assert record["results"][0]["joules_per_token"] is None
