from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mine import PROMPTS

from outpace.bench.studies import Study
from outpace.bench.studies.journal import Journal
from outpace.bench.studies.run import StudyRun
from outpace.models import LanguageModel
from outpace.models.tiny import tiny_model


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in a folder."""
    folder = tmp_path_factory.mktemp("models") / "target"
    model: LanguageModel = tiny_model()
    model.model.set_attn_implementation("sdpa")
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)  # type: ignore[union-attr]
    return folder


@pytest.fixture
def study(target: Path, tmp_path: Path) -> Callable[..., Study]:
    """Make a study of one part on the tiny model, with methods and options as given."""
    prompts = tmp_path / "mine.jsonl"
    prompts.write_text("".join(f'"{text}"\n' for text in PROMPTS))

    def made(*methods: str, **options: Any) -> Study:
        base = {
            "target": str(target),
            "dtype": "float32",
            "device": "cpu",
            "runtime": "eager",
            "prompts": [str(prompts)],
            "max_new_tokens": 12,
            "warmup": 0,
            **options,
        }
        return Study.parse(
            "mine", f'[[parts]]\nname = "a"\nmethods = {list(methods)}', options=base
        )

    return made


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Study], Journal]:
    """Run a study in a folder, or go on with it; return all that is recorded."""

    def ran(study: Study) -> Journal:
        folder = tmp_path / "out"
        journal = Journal(folder)
        if journal.path.exists():
            journal.read()
        StudyRun(study, said=lambda _: None).run(journal)
        return Journal(folder).read()

    return ran
