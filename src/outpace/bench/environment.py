"""Where a measurement was made."""

import contextlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..version import __version__

# Where scikit-learn is there, transformers adapts the threshold of assisted generation.
_PACKAGES = ("torch", "transformers", "tokenizers", "scikit-learn")


def environment() -> dict[str, Any]:
    """Return versions, processor, threads, GPU and the state of the source checkout."""
    versions = {"outpace": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "versions": versions,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": {
            "name": _processor(),
            "cores": os.cpu_count(),
            "capability": torch.backends.cpu.get_cpu_capability(),
        },
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "git": _git(),
    }


def machine(environment: dict[str, Any]) -> str:
    """Return in words what computed, with the instructions torch found: half of a CPU's speed."""
    cpu = environment["cpu"]
    processor = f"{cpu['name']} ({cpu['capability']}), {environment['threads']} threads"
    return environment["gpu"] or processor


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git() -> dict[str, Any] | None:
    """Return the commit of the checkout this package runs from, if it is one."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        commit = _run(root, "rev-parse", "HEAD").strip()
        return {"commit": commit, "changed": bool(_run(root, "status", "--porcelain").strip())}
    except (OSError, subprocess.SubprocessError):
        return None


def _run(root: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=10
    ).stdout
