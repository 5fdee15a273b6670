"""Methods of the benchmark: whoever can continue a text, timed in the same way."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..cache.policies import CachePolicy
from ..models import LanguageModel
from ..recipe import Recipe
from ..types import Round
from .differences import Difference, Judge
from .sample import Sample, Writing
from .workloads import BenchPrompt


@dataclass(frozen=True, slots=True)
class Models:
    """What is measured: loaded once, shared by all methods."""

    target: LanguageModel
    drafter: LanguageModel | None
    others: dict[str, LanguageModel] = field(default_factory=dict)
    """What single methods run: draft models they name, copies in other precisions; each once."""
    recipe: Recipe | None = None
    """What the method ``recipe`` is."""
    drafter_dtype: str | None = None
    """Of the draft models that methods name; None is the dtype of the target."""


class Method(ABC):
    """One way to continue a text.

    Attributes:
        name: as it was asked for.
        exact: whether its text has the target's own law.
        same_text: whether our own plain decoding writes the same text, also when sampling.
        forgets: of a target that forgets by places alone, as ``compared_with`` does: both texts
            should be the same then, although neither is the whole target's.
        begins_alike: whether a shorter text is the beginning of a longer one, to the last bit, so
            that looking at its beginning takes no more than writing that.
        compared_with: the method whose text it should write, if its aim is another one than that
            of the reference.
        rounds: of the last text it wrote; empty where it has none.
        began: when that text was asked for, on the clock of the rounds.
    """

    name: str
    exact: bool = True
    same_text: bool = False
    forgets: CachePolicy | None = None
    begins_alike: bool = False
    compared_with: str | None = None
    rounds: Sequence[Round] = ()
    began: float = 0.0

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Get ready to write one text, outside of what is timed."""
        yield

    @abstractmethod
    def write(self, prompt: BenchPrompt, writing: Writing) -> Sample:
        """Write one text."""

    @abstractmethod
    def rows(self, prompt: BenchPrompt, writing: Writing) -> tuple[list[int], list[Tensor]]:
        """Write the text again; return its tokens and the logits ``[V]`` each was chosen from."""

    def drafts(self, prompt: BenchPrompt) -> list[Any] | None:
        """Return what was drafted for a prompt, as JSON can hold it, where time decided on it."""
        return None

    def recall(self, prompt: BenchPrompt, drafts: list[Any]) -> None:
        """Draft for a prompt as :meth:`drafts` says, when its text is written again."""
        raise NotImplementedError(f"{self.name}: nothing it drafts depends on time")

    def explain(
        self,
        difference: Difference,
        reference: "Method",
        prompt: BenchPrompt,
        writing: Writing,
        judge: Judge,
    ) -> Difference | None:
        """Say why its text differs, where the scores at one position do not tell; else None."""
        return None

    def prepare(self, prompts: list[BenchPrompt], writing: Writing) -> Iterator[str]:
        """Build what must be there before the first text; yield a word for every step done."""
        return iter(())

    def tune(self, prompts: list[BenchPrompt], writing: Writing) -> Iterator[str]:
        """Search for the best settings; yield a word for every step done."""
        return iter(())

    def use(self, settings: dict[str, Any]) -> None:  # noqa: B027 - optional hook
        """Take the settings that were found before, instead of searching for them."""

    @property
    def settings(self) -> dict[str, Any]:
        """What was set or found, for the record."""
        return {}

    @property
    def models_used(self) -> Sequence[LanguageModel]:
        """The models it runs, the target first."""
        return ()
