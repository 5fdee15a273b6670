"""Compiling a model ahead: here and now, or in a process of its own while text is written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import OutpaceError, RuntimeUnavailable
from . import artefacts
from .mask import MaskBuilder
from .packages import PackagedRuntime, compile_packages, need_compiler
from .packed_products import exportable
from .step import Step
from .stored import stored_precision

if TYPE_CHECKING:
    from .kv import Shape
    from .language_model import LanguageModel

NICE = 10
"""How far a process in the background stands back."""


class Prepared:
    """The compiled forwards of one model, there or not.

    Args:
        model: on the CPU, probed.
        shapes: of each layer's keys and values.

    Raises:
        RuntimeUnavailable: its weights are multiplied by kernels that no compiler can look into.
    """

    def __init__(self, model: LanguageModel, shapes: list[Shape]) -> None:
        _check_weights(model)
        self._model, self._shapes = model, shapes
        self._about = artefacts.identity(model)
        self.key = artefacts.key_of(self._about)

    @property
    def is_there(self) -> bool:
        """Whether it can be loaded."""
        return artefacts.is_there(self.key)

    @property
    def failure(self) -> str | None:
        """Why it could not be made, if that was tried."""
        with suppress(OSError):
            return self._failed.read_text(encoding="utf-8") or None
        return None

    def load(self) -> PackagedRuntime:
        """Load it.

        Raises:
            RuntimeUnavailable: it cannot be loaded.
        """
        artefacts.touch(self.key)
        return PackagedRuntime(artefacts.place_of(self.key), self._shapes, self._model.dtype)

    def make(self, note: Callable[[str], None] = lambda what: None) -> None:
        """Compile it, unless it is there.

        Raises:
            RuntimeUnavailable: it cannot be, or another process is at it.
        """
        with artefacts.lock(self.key) as mine:
            if self.is_there:
                return
            if not mine:
                raise RuntimeUnavailable(f"another process compiles {self._model.name} already")
            self._failed.unlink(missing_ok=True)
            model = self._model
            masks = MaskBuilder(model.config, model.dtype, model.name, packed_width=None)
            try:
                with model.attached(), exportable(model.model):
                    compile_packages(
                        Step(model.model, masks),
                        self._shapes,
                        model.dtype,
                        model.vocabulary,
                        artefacts.place_of(self.key),
                        note,
                    )
            except RuntimeUnavailable as error:
                with suppress(OSError):
                    self._failed.write_text(str(error), encoding="utf-8")
                raise
            artefacts.finish(self.key, self._about)

    def make_in_background(self) -> None:
        """Have another process compile it, which goes on if this one ends.

        Raises:
            RuntimeUnavailable: there is no compiler, or it was tried and failed; or the model was
                not loaded by name, so that no other process can.
        """
        if self._model.source is None:
            raise RuntimeUnavailable(
                f"{self._model.name} was not loaded by name: compile it with "
                "use_runtime('compile', wait=True)"
            )
        if why := self.failure:
            raise RuntimeUnavailable(why)
        need_compiler()
        if self.key in artefacts.being_made():
            return
        threads = str(torch.get_num_threads())
        command = [sys.executable, "-m", __name__, *self._model.source, threads]
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not meant for it
        )

    @property
    def _failed(self) -> Path:
        return artefacts.folder() / f"{self.key}.failed"


def _check_weights(model: LanguageModel) -> None:
    """Raise RuntimeUnavailable for weights that cannot be compiled, before it is tried."""
    packed = [layer for layer in model.model.modules() if hasattr(layer, "packed_bytes")]
    known = all(getattr(layer, "compiles", False) for layer in packed)
    if not known or stored_precision(model.model.config) is not None:
        raise RuntimeUnavailable(f"weights in {model.precision} are not compiled on a CPU")


def main(arguments: list[str]) -> int:
    """Compile the model of a name, precision and number of threads, out of everybody's way."""
    from .load import load

    name, dtype, threads = arguments
    with suppress(OSError, AttributeError):
        os.nice(NICE)
    torch.set_num_threads(int(threads))
    try:
        model = load(name, dtype=dtype, device="cpu")
        model.prepared().make()
    except OutpaceError:
        return 2  # the reason is written where the other process looks for it
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
