"""The public conformance suite: what a drafter, verifier, length controller or cache must hold.

Run one of the ``check_`` functions in a test of your own; it raises :class:`ContractBroken` with
the rule that was broken. Toy laws are small enough to enumerate.
"""

from ..models.tiny import tiny_model
from .contract import (
    PROMPTS,
    SETTINGS,
    check_cache,
    check_drafter,
    check_lengths,
    check_tree,
    check_verifier,
)
from .laws import (
    EnumeratedNoise,
    Law,
    Propose,
    ToyLaw,
    drawn_trees,
    emitted_law,
    enumerate_noise,
    target_law,
    total_variation,
    written_law,
)
from .trees import ContractBroken

__all__ = [
    "PROMPTS",
    "SETTINGS",
    "ContractBroken",
    "EnumeratedNoise",
    "Law",
    "Propose",
    "ToyLaw",
    "check_cache",
    "check_drafter",
    "check_lengths",
    "check_tree",
    "check_verifier",
    "drawn_trees",
    "emitted_law",
    "enumerate_noise",
    "target_law",
    "tiny_model",
    "total_variation",
    "written_law",
]
