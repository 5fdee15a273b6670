"""Conversations: what was said, its tokens, who answers and how fast."""

from .chat import Chat
from .conversation import Conversation, Exchange
from .methods import METHODS, Methods, NgramStorage
from .reply import Answering, Reply
from .totals import Totals, totals
from .wording import Wording

__all__ = [
    "METHODS",
    "Answering",
    "Chat",
    "Conversation",
    "Exchange",
    "Methods",
    "NgramStorage",
    "Reply",
    "Totals",
    "Wording",
    "totals",
]
