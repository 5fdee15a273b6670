"""Sets Outpace up in a virtual environment of its own and runs its tools there.

The file needs nothing but the standard library. It must stay readable for Python 3.8, so that an
old interpreter answers with one clear line instead of a syntax error.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

USAGE = """\
usage: python3 run.py COMMAND [ARGUMENTS]

  setup   make .venv and install Outpace with its development tools
  demo    show the demonstration          (python -m outpace demo ARGUMENTS)
  test    run the tests                   (python -m pytest ARGUMENTS)
  check   run ruff, mypy and lint-imports
  docs    write the API documentation     (python docs/generate_api.py ARGUMENTS)

Every command sets .venv up first where that is needed, and repairs it where it is broken.
The folder .venv belongs to run.py: a repair empties it.

environment:
  OUTPACE_TORCH_INDEX   package index for the CPU build of torch, used on Linux without an
                        NVIDIA driver when pip would otherwise choose a CUDA build
  HF_HUB_OFFLINE        set to 1 for every command unless you set it yourself
  PIP_*                 pip's own settings, which apply as usual
"""

OLDEST_PYTHON = (3, 11)
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "outpace-setup.json"  # records a finished installation
STAMP_FORMAT = 1
TOOLS = {
    "demo": ["-m", "outpace", "demo"],
    "test": ["-m", "pytest"],
    "docs": [str(Path("docs", "generate_api.py"))],
}

# On Linux the torch wheel of the default index brings gigabytes of CUDA packages, which are of no
# use without an NVIDIA driver. Only this index offers builds without them.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"

NVIDIA_DRIVER_FILE = Path("/proc/driver/nvidia/version")
SECONDS_BETWEEN_DOTS = 5
SECONDS_TO_CLOSE_DOWN = 10
LINES_OF_OUTPUT_SHOWN = 12


class SetupError(Exception):
    """Something the user has to know about; its text is shown as it is."""


def venv_program(name: str) -> Path:
    """Returns the path of a program inside .venv."""
    if os.name == "nt":
        return VENV / "Scripts" / (name + ".exe")
    return VENV / "bin" / name


def fingerprint() -> dict[str, object]:
    """Describes everything an installation depends on."""
    return {
        "format": STAMP_FORMAT,
        "location": str(VENV),
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "pyproject": hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest(),
    }


def read_stamp() -> dict[str, object] | None:
    """Reads what the last installation recorded, or None where none was finished."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def write_stamp(stamp: dict[str, object]) -> None:
    """Records an installation."""
    STAMP.write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")


def venv_python_runs() -> bool:
    """Tells whether the interpreter in .venv can be started."""
    command = [str(venv_program("python")), "-I", "-S", "-c", ""]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def diagnose() -> tuple[str, bool]:
    """Returns why an installation is needed ("" for none), and whether .venv is made anew."""
    if not VENV.exists():
        return "there is none yet", True
    stamp, wanted = read_stamp(), fingerprint()
    if stamp is None:
        return "the last setup did not finish", True
    for key, reason in (
        ("format", "it was made by another version of run.py"),
        ("location", "it was moved here from another folder"),
        ("python", f"it was made for another Python than {wanted['python']}"),
    ):
        if stamp.get(key) != wanted[key]:
            return reason, True
    if not venv_python_runs():
        return "its Python does not run any more", True
    if not stamp.get("pyproject"):
        return "the last setup failed", False
    if stamp["pyproject"] != wanted["pyproject"]:
        return "pyproject.toml has changed", False
    return "", False


def say(text: str, end: str = "\n") -> None:
    """Shows progress at once, on standard error so that a tool's own output stays clean."""
    print(text, end=end, file=sys.stderr, flush=True)


def clean_environment() -> dict[str, str]:
    """Returns the user's environment without what would lead Python outside of .venv.

    With PYTHONPATH, pip would take packages found there for installed ones.
    """
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")}


def do_step(label: str, command: list[str], note: str = "") -> str:
    """Runs one step of the setup quietly, with a dot now and then, and returns its output."""
    say(f"  {label}{note} ..", end="")
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    try:
        while True:
            try:
                output, errors = process.communicate(timeout=SECONDS_BETWEEN_DOTS)
                break
            except subprocess.TimeoutExpired:
                say(".", end="")
    except BaseException:
        say("")
        process.terminate()
        process.wait()
        raise
    if process.returncode != 0:
        say(" failed")
        lines = [line for line in (output + errors).splitlines() if line.strip()]
        shown = "".join("\n  | " + line for line in lines[-LINES_OF_OUTPUT_SHOWN:])
        raise SetupError(f"setup failed while {label} (exit code {process.returncode}):{shown}")
    say(f" {time.monotonic() - started:.0f} s")
    return output


def pip_install(*arguments: str) -> list[str]:
    """Returns a quiet pip command, under whatever configuration of pip the user has."""
    return [str(venv_program("python")), "-m", "pip", "install", "--quiet", *arguments]


def torch_requirement() -> str:
    """Reads the torch versions that the project supports from pyproject.toml."""
    import tomllib  # new in Python 3.11, and older ones must be able to load this file

    try:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except ValueError as error:
        raise SetupError(f"pyproject.toml cannot be read: {error}") from error
    return next(str(d) for d in project["dependencies"] if re.match(r"torch\s*[<>=!~]", d))


def cuda_would_be_wasted() -> bool:
    """Tells whether pip may choose a CUDA build of torch where no GPU could use it."""
    has_driver = NVIDIA_DRIVER_FILE.exists() or shutil.which("nvidia-smi") is not None
    return platform.system() == "Linux" and not has_driver


def install_torch_without_cuda() -> None:
    """Installs a CPU build of torch: the user's own index's if it has one, else PyTorch's."""
    requirement = torch_requirement()
    # Before 25.1, pip downloads the whole wheel only to tell which version it would choose.
    do_step("updating pip", pip_install("--upgrade", "pip"))
    query = pip_install("--dry-run", "--report", "-", "--no-deps", requirement)
    chosen = json.loads(do_step("choosing a build of torch", query))["install"]
    if not chosen:
        return  # one in the supported range is installed already
    version = str(chosen[0]["metadata"]["version"])
    command = pip_install("--no-deps", requirement)  # what torch needs comes with the next step
    if "+cpu" not in version:
        command += ["--index-url", os.environ.get("OUTPACE_TORCH_INDEX") or TORCH_CPU_INDEX]
    do_step("installing torch for the CPU", command, " (the big one: a minute or more)")


def install(reason: str, fresh: bool) -> None:
    """Brings .venv up to date, or makes it anew."""
    say(f"Setting up .venv: {reason}.")
    started = time.monotonic()
    # An interrupted pip may leave half a package behind. Without the stamp the next run starts
    # from an empty .venv.
    if VENV.exists():
        STAMP.unlink(missing_ok=True)
    if fresh:
        do_step("making .venv", [sys.executable, "-m", "venv", "--clear", str(VENV)])
    try:
        note = " (about a minute)" if fresh else ""
        if cuda_would_be_wasted():
            install_torch_without_cuda()
        elif fresh:
            note = " (torch among them: some minutes)"
        do_step("installing outpace and its tools", pip_install("-e", ".[dev]"), note)
    except SetupError:
        # A pip that fails puts things back in order, so what is there can be built upon.
        write_stamp({**fingerprint(), "pyproject": ""})
        raise
    write_stamp(fingerprint())
    say(f"Ready after {time.monotonic() - started:.0f} s.")


def run_tool(*command: str) -> int:
    """Runs a tool from the repository root and returns its exit code."""
    environment = {"HF_HUB_OFFLINE": "1", **clean_environment()}
    try:
        process = subprocess.Popen(command, cwd=ROOT, env=environment)
    except OSError as error:
        raise SetupError(f"{error}; delete {VENV.name} to have it made anew") from error
    try:
        code = process.wait()
    except KeyboardInterrupt:
        # Ctrl-C reaches the tool as well: let it close down by itself if it does so soon.
        try:
            process.wait(timeout=SECONDS_TO_CLOSE_DOWN)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.terminate()
            process.wait()
        raise
    return code if code >= 0 else 128 - code  # the shell's code for a tool ended by a signal


def run_checks() -> int:
    """Runs every check, even after one has failed, and names those that failed."""
    python = str(venv_program("python"))
    checks = {
        "ruff check": (python, "-m", "ruff", "check", "."),
        "ruff format": (python, "-m", "ruff", "format", "--check", "."),
        "mypy": (python, "-m", "mypy"),
        "lint-imports": (str(venv_program("lint-imports")),),
    }
    failed = []
    for name, command in checks.items():
        print(f"== {name}", flush=True)
        if run_tool(*command) != 0:
            failed.append(name)
    print(f"Failed: {', '.join(failed)}." if failed else "All checks passed.", flush=True)
    return 1 if failed else 0


def run_command(command: str, arguments: list[str]) -> int:
    """Sets .venv up where needed, runs one of the commands and returns the exit code."""
    reason, fresh = diagnose()
    if reason:
        install(reason, fresh)
    elif command == "setup":
        say("Everything is in place.")
    if command in TOOLS:
        return run_tool(str(venv_program("python")), *TOOLS[command], *arguments)
    return run_checks() if command == "check" else 0


def main(arguments: list[str]) -> int:
    """Runs run.py with the arguments of the command line and returns the exit code."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        say(f"run.py: Outpace needs Python 3.11 or newer; this is {platform.python_version()}.")
        return 2
    if arguments and arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if not arguments or arguments[0] not in ("setup", "check", *TOOLS):
        say((f"run.py: there is no command {arguments[0]!r}.\n\n" if arguments else "") + USAGE, "")
        return 2
    command, rest = arguments[0], arguments[1:]
    if rest and command in ("setup", "check"):
        say(f"run.py: {command} takes no arguments.")
        return 2
    try:
        return run_command(command, rest)
    except SetupError as error:
        say(f"run.py: {error}")
        return 1
    except KeyboardInterrupt:
        say("run.py: interrupted." + ("" if read_stamp() else " The next run repairs .venv."))
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
