import ast
import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

RUN_PY = Path(__file__).resolve().parent.parent / "run.py"
PYPROJECT = '[project]\ndependencies = ["numpy", "torch>=2.11,<2.14", "torchfoo>=1"]\n'
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


class Machine:
    """Stands for every subprocess: records the commands and answers as told."""

    def __init__(self, venv: Path) -> None:
        self.venv = venv
        self.commands: list[list[str]] = []
        self.environments: list[dict[str, str] | None] = []
        self.folders: list[Path | None] = []
        self.torch: str | None = "2.13.0+cpu"
        self.exit_codes: dict[str, int] = {}
        self.interrupted_by = ""
        self.ended: list[str] = []

    def popen(self, command: Any, **options: Any) -> "Process":
        words = [str(word) for word in command]
        self.commands.append(words)
        self.environments.append(options.get("env"))
        self.folders.append(options.get("cwd"))
        if "venv" in words:
            self.make_venv()
        return Process(self, words)

    def make_venv(self) -> None:
        for leftover in self.venv.glob("*"):
            leftover.unlink()
        self.venv.mkdir(exist_ok=True)

    def matching(self, *words: str) -> list[list[str]]:
        return [c for c in self.commands if all(word in c for word in words)]

    def pip_calls(self) -> list[list[str]]:
        return self.matching("pip")


class Process:
    def __init__(self, machine: Machine, words: list[str]) -> None:
        self.machine = machine
        self.words = self.args = words
        self.line = " ".join(words)
        codes = machine.exit_codes.items()
        self.returncode = next((code for part, code in codes if part in self.line), 0)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *details: object) -> None:
        pass

    def interrupt_if_asked(self) -> None:
        wanted = self.machine.interrupted_by
        if wanted and wanted in self.line:
            self.machine.interrupted_by = ""
            raise KeyboardInterrupt

    def communicate(self, *_: object, **__: object) -> tuple[str, str]:
        self.interrupt_if_asked()
        if self.returncode:
            return "", "some progress\n\nERROR: no such package\n"
        torch = self.machine.torch
        install = [] if torch is None else [{"metadata": {"name": "torch", "version": torch}}]
        return (json.dumps({"install": install}) if "--report" in self.words else ""), ""

    def wait(self, timeout: float | None = None) -> int:
        self.interrupt_if_asked()
        return self.returncode

    def poll(self) -> int:
        return self.returncode

    def terminate(self) -> None:
        self.machine.ended.append(self.line)

    kill = terminate


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("outpace_run_py", RUN_PY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "outpace-setup.json")
    monkeypatch.setattr(module, "NVIDIA_DRIVER_FILE", tmp_path / "driver")
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    for name in ("HF_HUB_OFFLINE", "OUTPACE_TORCH_INDEX", "PYTHONPATH", "PYTHONHOME"):
        monkeypatch.delenv(name, raising=False)
    return module


@pytest.fixture
def machine(run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(run.VENV)
    monkeypatch.setattr(subprocess, "Popen", machine.popen)
    return machine


@pytest.fixture
def ready(run: ModuleType, machine: Machine) -> Machine:
    """A machine on which the setup is done."""
    assert run.main(["setup"]) == 0
    machine.commands.clear()
    machine.environments.clear()
    machine.folders.clear()
    return machine


def test_file_parses_on_old_python() -> None:
    ast.parse(RUN_PY.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_old_python_is_refused_in_one_line(
    run: ModuleType,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run, "OLDEST_PYTHON", (99, 0))
    assert run.main(["test"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert machine.commands == []


# --- What needs no subprocess ---


@pytest.mark.parametrize(
    "arguments", [[], ["tests"], ["--version"], ["setup", "now"], ["check", "mypy"]]
)
def test_wrong_use_exits_with_2(
    run: ModuleType,
    machine: Machine,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run.main(arguments) == 2
    assert capsys.readouterr().err
    assert machine.commands == []


def test_unknown_command_is_named_with_the_usage(
    run: ModuleType, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["tests"]) == 2
    message = capsys.readouterr().err
    assert "'tests'" in message
    assert "usage:" in message


def test_help(run: ModuleType, machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in ("setup", "demo", "test", "check", "docs"))
    assert machine.commands == []


def test_windows_paths(run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    venv = run.VENV
    monkeypatch.setattr(run.os, "name", "nt")
    python = run.venv_program("python")
    monkeypatch.undo()
    assert python == venv / "Scripts" / "python.exe"


# --- The setup ---


def test_first_setup_installs_the_project_with_its_tools(run: ModuleType, machine: Machine) -> None:
    assert run.main(["setup"]) == 0
    assert machine.commands[0] == [sys.executable, "-m", "venv", "--clear", str(run.VENV)]
    assert machine.commands[-1][-2:] == ["-e", ".[dev]"]
    assert json.loads(run.STAMP.read_text()) == run.fingerprint()


def test_pip_never_bypasses_the_users_configuration(
    run: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "somewhere")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    assert run.main(["setup"]) == 0
    assert machine.matching("--isolated") == machine.matching("--index-url") == []
    for environment in machine.environments:
        assert environment is not None
        assert environment["PIP_FIND_LINKS"] == "somewhere"
        assert "PYTHONPATH" not in environment


def test_second_setup_calls_no_pip(
    run: ModuleType, ready: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run.main(["setup"]) == 0
    assert ready.pip_calls() == []
    assert capsys.readouterr().err == "Everything is in place.\n"


def test_changed_pyproject_is_installed_into_the_same_venv(run: ModuleType, ready: Machine) -> None:
    (run.ROOT / "pyproject.toml").write_text(PYPROJECT + "# changed\n")
    assert run.main(["setup"]) == 0
    assert len(ready.matching("-e")) == 1
    assert ready.matching("venv") == []
    assert run.diagnose() == ("", False)


def break_stamp(run: ModuleType) -> None:
    run.STAMP.write_text('{"format": 1')


def move_venv(run: ModuleType) -> None:
    run.write_stamp({**run.fingerprint(), "location": "/another/folder/.venv"})


def change_python(run: ModuleType) -> None:
    run.write_stamp({**run.fingerprint(), "python": "3.1"})


def change_format(run: ModuleType) -> None:
    run.write_stamp({**run.fingerprint(), "format": 0})


@pytest.mark.parametrize("damage", [break_stamp, move_venv, change_python, change_format])
def test_unfit_venv_is_made_anew(
    run: ModuleType, ready: Machine, damage: Callable[[ModuleType], None]
) -> None:
    damage(run)
    assert run.main(["setup"]) == 0
    assert len(ready.matching("venv", "--clear")) == 1
    assert len(ready.matching("-e")) == 1
    assert run.diagnose() == ("", False)


def test_venv_whose_python_does_not_run_is_made_anew(run: ModuleType, ready: Machine) -> None:
    ready.exit_codes["-I -S -c"] = 1
    assert run.main(["setup"]) == 0
    assert len(ready.matching("venv", "--clear")) == 1


def test_missing_venv_python_is_noticed(run: ModuleType) -> None:
    assert not run.venv_python_runs()


@pytest.mark.parametrize("step", ["--dry-run", "--no-deps torch", "-e .[dev]"])
def test_interrupted_install_is_repaired(
    run: ModuleType, machine: Machine, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.interrupted_by = step
    assert run.main(["test"]) == 130
    assert "interrupted" in capsys.readouterr().err.splitlines()[-1]
    assert len(machine.ended) == 1
    assert machine.matching("pytest") == []
    machine.commands.clear()
    assert run.main(["setup"]) == 0
    assert len(machine.matching("venv", "--clear")) == 1
    assert run.diagnose() == ("", False)


def test_interrupted_update_is_repaired(run: ModuleType, ready: Machine) -> None:
    (run.ROOT / "pyproject.toml").write_text(PYPROJECT + "# changed\n")
    ready.interrupted_by = "-e .[dev]"
    assert run.main(["setup"]) == 130
    assert run.diagnose() == ("the last setup did not finish", True)


def test_failing_pip_is_reported_and_the_next_run_goes_on(
    run: ModuleType, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.exit_codes["-e .[dev]"] = 1
    assert run.main(["test"]) == 1
    message = capsys.readouterr().err
    assert "run.py: setup failed while installing outpace" in message
    assert message.splitlines()[-1] == "  | ERROR: no such package"
    assert machine.matching("pytest") == []
    machine.exit_codes.clear()
    machine.commands.clear()
    assert run.main(["setup"]) == 0
    assert machine.matching("venv") == []
    assert len(machine.matching("-e")) == 1


def test_failing_venv_is_made_anew_the_next_time(run: ModuleType, machine: Machine) -> None:
    machine.exit_codes["-m venv"] = 1
    assert run.main(["setup"]) == 1
    assert machine.pip_calls() == []
    assert run.diagnose()[1]


def test_broken_pyproject_is_reported(
    run: ModuleType, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.ROOT / "pyproject.toml").write_text("[project\n")
    assert run.main(["setup"]) == 1
    assert "pyproject.toml cannot be read" in capsys.readouterr().err


# --- Which torch ---


def test_cpu_build_of_the_users_own_index_is_taken(run: ModuleType, machine: Machine) -> None:
    assert run.main(["setup"]) == 0
    assert len(machine.matching("--no-deps", "torch>=2.11,<2.14")) == 2
    assert machine.matching("--index-url") == []


@pytest.mark.parametrize("version", ["2.13.0", "2.13.0+cu130"])
def test_cuda_build_is_replaced_where_there_is_no_driver(
    run: ModuleType, machine: Machine, version: str
) -> None:
    machine.torch = version
    assert run.main(["setup"]) == 0
    [command] = machine.matching("--index-url")
    assert command[-4:] == ["--no-deps", "torch>=2.11,<2.14", "--index-url", CPU_INDEX]
    assert machine.commands.index(command) < len(machine.commands) - 1


def test_another_index_for_torch(
    run: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTPACE_TORCH_INDEX", "https://mirror.example/cpu")
    machine.torch = "2.13.0"
    assert run.main(["setup"]) == 0
    assert machine.matching("--index-url", "https://mirror.example/cpu")


def test_installed_torch_is_kept(run: ModuleType, machine: Machine) -> None:
    machine.torch = None
    assert run.main(["setup"]) == 0
    assert len(machine.matching("torch>=2.11,<2.14")) == 1


@pytest.mark.parametrize("sign", ["file", "program", "Darwin", "Windows"])
def test_pip_chooses_with_a_driver_or_on_another_system(
    run: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    if sign == "file":
        run.NVIDIA_DRIVER_FILE.touch()
    elif sign == "program":
        monkeypatch.setattr(run.shutil, "which", lambda name: f"/usr/bin/{name}")
    else:
        monkeypatch.setattr(run.platform, "system", lambda: sign)
    machine.torch = "2.13.0"
    assert run.main(["setup"]) == 0
    assert len(machine.pip_calls()) == 1


# --- The tools ---


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["demo", "--no-color"], ["-m", "outpace", "demo", "--no-color"]),
        (["demo", "--help"], ["-m", "outpace", "demo", "--help"]),
        (["test", "-k", "foo bar"], ["-m", "pytest", "-k", "foo bar"]),
        (["docs"], [str(Path("docs", "generate_api.py"))]),
    ],
)
@pytest.mark.parametrize("code", [0, 5])
def test_tool_gets_its_arguments_and_its_exit_code_is_passed_on(
    run: ModuleType, ready: Machine, arguments: list[str], expected: list[str], code: int
) -> None:
    ready.exit_codes[" ".join(expected)] = code
    assert run.main(arguments) == code
    assert ready.commands[-1] == [str(run.venv_program("python")), *expected]
    assert ready.folders[-1] == run.ROOT
    assert ready.pip_calls() == []


def test_tool_ended_by_a_signal(run: ModuleType, ready: Machine) -> None:
    ready.exit_codes["-m pytest"] = -signal.SIGTERM
    assert run.main(["test"]) == 128 + signal.SIGTERM


def test_interrupted_tool(
    run: ModuleType, ready: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    ready.interrupted_by = "-m pytest"
    assert run.main(["test"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "run.py: interrupted."
    assert run.diagnose() == ("", False)


def test_tool_that_cannot_be_started(
    run: ModuleType,
    ready: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def popen(command: Any, **options: Any) -> Process:
        if "pytest" in command:
            raise FileNotFoundError(2, "No such file or directory", "python")
        return ready.popen(command, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    assert run.main(["test"]) == 1
    assert "delete .venv" in capsys.readouterr().err


@pytest.mark.parametrize(("users_value", "expected"), [(None, "1"), ("0", "0")])
def test_tools_run_offline_unless_the_user_says_otherwise(
    run: ModuleType,
    ready: Machine,
    monkeypatch: pytest.MonkeyPatch,
    users_value: str | None,
    expected: str,
) -> None:
    if users_value is not None:
        monkeypatch.setenv("HF_HUB_OFFLINE", users_value)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert run.main(["demo"]) == 0
    environment = ready.environments[-1]
    assert environment is not None
    assert environment["HF_HUB_OFFLINE"] == expected
    assert environment["OMP_NUM_THREADS"] == "3"


def test_check_runs_every_check(
    run: ModuleType, ready: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["check"]) == 0
    lines = [" ".join(command) for command in ready.commands[-4:]]
    for line, end in zip(
        lines, ["ruff check .", "ruff format --check .", "mypy", "lint-imports"], strict=True
    ):
        assert line.removesuffix(".exe").endswith(end)
    assert capsys.readouterr().out.splitlines()[-1] == "All checks passed."


def test_check_goes_on_after_a_failure_and_names_it(
    run: ModuleType, ready: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    ready.exit_codes = {"-m ruff check": 1, "-m mypy": 2}
    assert run.main(["check"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "== ruff check",
        "== ruff format",
        "== mypy",
        "== lint-imports",
        "Failed: ruff check, mypy.",
    ]
