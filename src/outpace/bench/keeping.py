"""Whoever is told what a measurement has, at once, so that nothing done is ever lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..types import Round
from .differences import Difference
from .measured import Facts, Key
from .sample import Sample


class Notify(Protocol):
    """Told what is being done, once for every text."""

    def __call__(self, what: str, *, more: int = 0) -> None:
        """Take a note; ``more`` texts than planned will be written."""


def silent(what: str, *, more: int = 0) -> None:
    """Note nothing."""


class Keeping:
    """Is told of everything; this one keeps nothing."""

    run = 1
    """Which run of a measurement that may be taken up again this is."""
    goes_on = False
    """Whether what is kept can be gone on with, by another run."""

    def method(self, facts: Facts) -> None:
        """A method is ready: what is known of it."""

    def unusable(self, name: str, why: str) -> None:
        """A method has no figures, and why."""

    def sample(self, name: str, key: Key, sample: Sample, *, anchor: bool = False) -> None:
        """A text is written; as an anchor, one that others stand beside, once more."""

    def rounds(self, name: str, prompt: int, rounds: Sequence[Round], began: float) -> None:
        """The rounds of a text, the first of each method."""

    def drafts(self, name: str, prompt: int, drafts: Sequence[Any]) -> None:
        """What was drafted for a text that differs: another run could not draft it again."""

    def differences(self, name: str, found: Sequence[Difference]) -> None:
        """All texts of a method are compared, and what differs was looked into."""

    def surprise(self, prompt: int, text: str, nats: float | None) -> None:
        """A text's improbability; None where it cannot be known.

        See :func:`~outpace.bench.measured.text_hash`.
        """

    def drift(self, first: float, last: float) -> None:
        """Seconds of the baseline's same text at the beginning of the run and at its end."""
