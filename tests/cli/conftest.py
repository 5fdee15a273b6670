import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import Piped, Ran, Run, save
from tokenizers import Tokenizer

from outpace.cli import main
from outpace.models.tiny import tiny_model


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub, no colours wished for from outside, nothing on standard input."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # the variable is read once, when the package is imported
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for variable in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stdin", Piped(""))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The target."""
    return save(tiny_model(), tmp_path_factory.mktemp("models") / "target")


@pytest.fixture(scope="session")
def similar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drafter that is often right: the target with some noise."""
    model = tiny_model()
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.model.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=noise))
    return save(model, tmp_path_factory.mktemp("models") / "similar")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that numbers tokens differently."""
    model = tiny_model(seed=1)
    tokenizer: Any = model.tokenizer
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = core["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    model.tokenizer = type(tokenizer)(
        tokenizer_object=Tokenizer.from_str(json.dumps(core)), eos_token="<end>"
    )
    return save(model, tmp_path_factory.mktemp("models") / "stranger")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process."""

    def ran(*words: object) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Ran(code, *capsys.readouterr())

    return ran


@pytest.fixture
def generate(run: Run, folder: Path) -> Run:
    """Run ``outpace generate`` on the target."""

    def ran(*words: object) -> Ran:
        fixed = ("--target", folder, "--dtype", "float32", "--max-new-tokens", 24)
        return run("generate", *fixed, *words)

    return ran
