"""History → Budget: how much to draft in the next round."""

from .base import LengthController

__all__ = ["LengthController"]
