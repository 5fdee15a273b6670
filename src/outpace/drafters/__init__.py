"""Context + budget → TokenTree: one file a method."""

from .base import Drafter

__all__ = ["Drafter"]
