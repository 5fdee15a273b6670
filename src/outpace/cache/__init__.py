"""Who lies where: slots and positions, commit, rollback, and the KV of a sequence."""

from .session import Session
from .slots import Slots

__all__ = ["Session", "Slots"]
