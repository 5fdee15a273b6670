"""One forward over one token tree: the only package that touches transformers' model classes."""

from .kv import SlotCache
from .language_model import LanguageModel
from .load import load, wrap

__all__ = ["LanguageModel", "SlotCache", "load", "wrap"]
