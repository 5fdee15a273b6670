"""Which tokens' keys and values are kept: pure functions of what is held and of the length."""

from .base import CachePolicy, Held
from .full import FullPolicy
from .names import make_policy, parse_policy

__all__ = ["CachePolicy", "FullPolicy", "Held", "make_policy", "parse_policy"]
