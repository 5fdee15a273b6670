from collections.abc import Callable

import pytest
import torch
import transformers

from outpace.bench import BenchPrompt, Models
from outpace.bench.baselines import ROLLS_BACK
from outpace.models import LanguageModel
from outpace.models.tiny import tiny_model


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "assisted: needs transformers' assisted generation")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    for item in items:
        if version < ROLLS_BACK and item.get_closest_marker("assisted"):
            item.add_marker(pytest.mark.skip(reason="assisted generation is broken before 5.16"))


def blurred(seed: int = 1, amount: float = 0.02) -> LanguageModel:
    """A drafter that is often right: the target with some noise."""
    model = tiny_model()
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.model.parameters():
            weight.add_(amount * torch.randn(weight.shape, generator=noise))
    return model


@pytest.fixture
def models() -> Models:
    return Models(tiny_model(), blurred())


@pytest.fixture
def prompts() -> list[BenchPrompt]:
    texts = ("the cat and the dog and the cat and", "once upon a time there", "def add(a, b):")
    return [BenchPrompt("own", str(number), text) for number, text in enumerate(texts)]


@pytest.fixture
def in_dtype() -> Callable[[torch.dtype], Models]:
    def made(dtype: torch.dtype) -> Models:
        drafter = blurred()
        drafter.model.to(dtype)  # type: ignore[arg-type]
        drafter.dtype = dtype
        return Models(tiny_model(dtype=dtype), drafter)

    return made
