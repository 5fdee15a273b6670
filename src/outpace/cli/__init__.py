"""The command line. Only consumes rounds; heavy imports wait for the command that needs them."""

from .main import main

__all__ = ["main"]
