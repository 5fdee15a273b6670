"""How far the loading of a model's weights has come."""

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging as hf_logging

_LOADING = "Loading"
"""How transformers calls its bars over weights begins."""


@contextmanager
def watched(notify: Callable[[int, int], None]) -> Iterator[None]:
    """Tell how many of its weights a model has that is loaded meanwhile, and of how many.

    Args:
        notify: called with both numbers, for every weight.
    """

    def bar(make: Callable[..., Any], given: tuple[Any, ...], options: dict[str, Any]) -> Any:
        named = str(options.get("desc", "")).startswith(_LOADING)
        if named and given and isinstance(given[0], Sized):
            return _counted(given[0], notify)
        return make(*given, **options)

    before = hf_logging.set_tqdm_hook(bar)
    try:
        yield
    finally:
        hf_logging.set_tqdm_hook(before)


def _counted(weights: Any, notify: Callable[[int, int], None]) -> Iterator[Any]:
    total = len(weights)
    for done, weight in enumerate(weights):
        notify(done, total)
        yield weight
    notify(total, total)
