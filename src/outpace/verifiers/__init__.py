"""Tree + scores → Verdict."""

from .base import Verifier

__all__ = ["Verifier"]
