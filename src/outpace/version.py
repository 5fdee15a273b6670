"""The version, read from the installed metadata."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("outpace")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"
