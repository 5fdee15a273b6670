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
    emitted_law,
    enumerate_noise,
    iid_chains,
    total_variation,
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
    "emitted_law",
    "enumerate_noise",
    "iid_chains",
    "tiny_model",
    "total_variation",
]
