"""Fixtures shared by the whole suite."""

import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

# nothing in the suite may reach for the network
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# a thread for each process that a test starts: tests run side by side already
os.environ.setdefault("OMP_NUM_THREADS", "1")
# compiling takes minutes: tests that want it ask for it
os.environ.setdefault("OUTPACE_RUNTIME", "eager")
sys.path.insert(0, str(Path(__file__).parent))

import architectures
from outpace.data import VARIABLE, checkpoint
from outpace.folders import CACHE_VARIABLE as CACHE
from outpace.lengths.fixed import FixedLength
from outpace.models import LanguageModel, wrap
from outpace.models.attention import use_slot_attention

# Small matrices: a second thread costs more than it gives, and tests run side by side.
torch.set_num_threads(1)


@cache
def _pair(name: str) -> tuple[LanguageModel, LanguageModel]:
    model = architectures.build(name)
    pair = []
    for one in (model, architectures.blurred(model)):
        language_model = wrap(one, name=name)
        use_slot_attention(one)
        pair.append(language_model)
    return pair[0], pair[1]


@pytest.fixture(scope="session")
def pair() -> Callable[[str], tuple[LanguageModel, LanguageModel]]:
    """From a family's name to a tiny target and a drafter that often agrees with it."""
    return _pair


@pytest.fixture(autouse=True, scope="session")
def measurements(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is measured of pairs of models out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def threads() -> Iterator[None]:
    """Give the process back the threads it had, whatever a recipe asks for."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def draft_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have decoders draft 5 tokens or the drafter's own budget where no length is asked for.

    The gate would often find that models this small do not pay.
    """
    monkeypatch.setattr("outpace.decoder._default_lengths", lambda drafter, verifier: FixedLength())


@pytest.fixture(scope="session")
def stories() -> Path:
    """The folder of the real checkpoint."""
    folder = checkpoint("TinyStories-656K")
    if folder is None:
        pytest.skip(f"no models/TinyStories-656K in the data folder ({VARIABLE})")
    return folder


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a package where Python finds it: its modules, its name and its entry points."""
    folder, made = tmp_path / "packages", list[str]()

    def installed(package: str, group: str, points: dict[str, str], **modules: str) -> None:
        info = folder / f"{package.replace('-', '_')}-0.1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1.0\n")
        lines = [f"[{group}]", *(f"{name} = {place}" for name, place in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines))
        for name, code in modules.items():
            (folder / f"{name}.py").write_text(code)
        made.extend(modules)
        monkeypatch.syspath_prepend(folder)

    yield installed
    for name in made:
        sys.modules.pop(name, None)
