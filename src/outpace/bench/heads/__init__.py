"""What each attention head looks at: measures, classes, and how much of its cache it needs."""

from .analysis import Analysis, Heads, Read
from .classes import CLASSES, classify, importance
from .head import FIRST, SINKS, WINDOWS, Head

__all__ = [
    "CLASSES",
    "FIRST",
    "SINKS",
    "WINDOWS",
    "Analysis",
    "Head",
    "Heads",
    "Read",
    "classify",
    "importance",
]
