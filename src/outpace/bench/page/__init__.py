"""A report as one HTML file that asks no server for anything: layout only."""

from .layout import html

__all__ = ["html"]
