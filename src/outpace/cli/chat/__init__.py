"""``outpace chat``: an interactive prompt; several methods can answer the same message."""

from .command import chat

__all__ = ["chat"]
