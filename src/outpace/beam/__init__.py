"""Beam search: several texts grow at once, as branches of one tree in the slot cache."""

from .output import BeamOutput, BeamStats, BeamStep, Hypothesis
from .rules import BeamRules, BeamSettings
from .search import BeamSearch, begin
from .tree import BeamTree

__all__ = [
    "BeamOutput",
    "BeamRules",
    "BeamSearch",
    "BeamSettings",
    "BeamStats",
    "BeamStep",
    "BeamTree",
    "Hypothesis",
    "begin",
]
