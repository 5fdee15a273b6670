"""Compiled forwards for the CPU: made once by Inductor, kept on disk, loaded in an instant.

A package is one forward for every width and number of slots, so its weights are there once. Two
make up an artefact: one whose matrix products are generated C++, the fastest where few rows share
the reading of the weights, and one that calls the vendor library, the fastest where many do.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import RuntimeUnavailable
from ..sampling import Pick
from ..types import causal
from .attention import narrow
from .kv import Shape, SlotCache
from .packed_products import by_packed_weights
from .products import multiplies_bfloat16, pairwise
from .quiet import quiet
from .runtime import Inputs, Runtime, rows_kept
from .step import Step

NARROW, WIDE = "narrow", "wide"
_BACKENDS = {NARROW: "CPP", WIDE: "ATEN"}
_INT4 = torch.ops.aten._weight_int4pack_mm_for_cpu.default
_TIMED = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64)
_ROUND, _PROMPT = (6, 256), (256, 512)
"""Width and slots of what is compiled for: loops are shared out among threads as these need it."""


FEW_ROWS = {
    # a loop over fewer numbers takes less time than waking another thread for it
    "cpp.min_chunk_size": 4096,
    # products of the same rows in one; where rows are many, splitting the result costs more
    "cpp.enable_concat_linear": True,
}
"""The compiler's options for forwards of a few rows, beyond those of all."""


class PackagedRuntime(Runtime):
    """Runs compiled forwards of one model on the CPU, at any width, without padding.

    Args:
        folder: of an artefact that :func:`compile_packages` has made.
        shapes: of each layer, heads and width of keys and of values.
        dtype: of keys and values.

    Raises:
        RuntimeUnavailable: the artefact cannot be loaded.
    """

    name = "compile"
    traced = True
    chunks = (512,)  # no width is padded; wider ones would score more slots that nobody sees
    widths = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 48, 64)

    def __init__(
        self,
        folder: Path,
        shapes: Sequence[Shape],
        dtype: torch.dtype,
    ) -> None:
        try:
            about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            self._last_narrow = int(about["last_narrow"])
            runner = torch._C._aoti.AOTIModelContainerRunnerCpu
            self._narrow, self._wide = (
                runner(str(folder / f"{part}.so"), 1).run for part in (NARROW, WIDE)
            )
        except Exception as error:  # of the system's loader as well
            raise RuntimeUnavailable(
                f"the compiled model in {folder} cannot be loaded: run outpace cache clear"
            ) from error
        self._shapes = list(shapes)
        self._like = torch.empty(0, dtype=dtype)
        self._cpu = torch.device("cpu")

    def run(self, given: Inputs) -> Tensor:
        """See the base class."""
        cache = given.cache
        if not cache.allocated:
            cache.allocate(self._shapes, self._like)
        count, nodes = given.tokens.shape[0], given.where.shape[1]
        run = self._narrow if count <= self._last_narrow else self._wide
        # compiled code takes the strides of its example for granted
        where, seen = given.where.contiguous(), given.ancestors.contiguous()
        keep, rows = rows_kept(count, given.last_only, self._cpu), _rows(nodes - count, nodes)
        held, (keys, values) = given.held[: given.view], cache.seen(given.view)
        logits: Tensor = run([given.tokens, where, rows, seen, keep, held, *keys, *values])[0]
        return logits

    def chain(self, first: Inputs, where: Tensor, length: int, pick: Pick) -> Tensor:
        """See the base class: one call after another, and next to nothing in between."""
        cache, view, count = first.cache, first.view, first.tokens.shape[0]
        if not cache.allocated:
            cache.allocate(self._shapes, self._like)
        total, (keys, values) = count + length - 1, cache.seen(view)
        step = _step_of_chain(0, count, total)
        given = [first.tokens, where, *step, first.held[:view], *keys, *values]
        run = self._narrow if count <= self._last_narrow else self._wide
        chosen: list[Tensor] = []
        for place in range(length):
            if place:
                run, node = self._narrow, count + place - 1
                given[0] = chosen[-1]
                given[2:5] = _step_of_chain(node, node + 1, total)
            logits, best = run(given)
            chosen.append(best if pick.noise is None else pick(logits, place))
        return chosen[0] if length == 1 else torch.cat(chosen)


class _Unit(nn.Module):
    """What is compiled: a forward, and the best token after its last row."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step

    def forward(
        self,
        tokens: Tensor,
        where: Tensor,
        rows: Tensor,
        ancestors: Tensor,
        keep: Tensor,
        held: Tensor,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Return logits ``[R, V]`` and a token ``[1]``; see :meth:`Step.forward`."""
        logits = self.step(tokens, where, ancestors, keep, held, keys, values, rows)
        return logits, logits[-1:].argmax(-1)


@lru_cache(maxsize=1024)
def _rows(first: int, end: int) -> Tensor:
    return torch.arange(first, end)


@lru_cache(maxsize=1024)
def _step_of_chain(first: int, end: int, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return which nodes of a chain are run, whom they see, and the row whose logits are wanted."""
    seen = causal(nodes, torch.device("cpu"))[first:end]
    return _rows(first, end), seen, _rows(end - first - 1, end - first)


def compile_packages(
    step: Step,
    shapes: Sequence[Shape],
    dtype: torch.dtype,
    vocabulary: int,
    folder: Path,
    note: Callable[[str], None] = lambda what: None,
) -> None:
    """Compile both packages of a model into a folder, which is there whole or not at all.

    Takes half a minute to some minutes a package, nearly all of it in the C++ compiler.

    Args:
        step: the model, with masks that pack grouped queries at every width.
        shapes: of each layer, heads and width of keys and of values.
        dtype: of keys and values.
        vocabulary: rows of its embedding.
        folder: where to.
        note: told what is done now.

    Raises:
        RuntimeUnavailable: no C++ compiler, or the model cannot be exported or compiled.
    """
    need_compiler()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
        made = Path(place) / "made"
        made.mkdir()
        try:
            with torch.no_grad(), quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                note("exporting")
                # where the narrow forwards are served by our kernel, these are parts of prompts
                if dtype == torch.bfloat16 and multiplies_bfloat16():
                    wide, example = Step(step.model, step.masks.unpacked()), _PROMPT
                else:
                    wide, example = step, _ROUND
                programs = {WIDE: _export(wide, _example(shapes, dtype, vocabulary, *example))}
                with narrow():
                    given = _example(shapes, dtype, vocabulary, *_ROUND)
                    programs[NARROW] = _export(step, given)
                with pairwise(), by_packed_weights():
                    for part, backend in _BACKENDS.items():
                        note(f"compiling for {part} forwards")
                        _package(programs[part], backend, made / f"{part}.so", Path(place))
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RuntimeUnavailable(f"the model cannot be compiled ({reason[:200]})") from error
        note("timing")
        about = {"last_narrow": 0}
        (made / "about.json").write_text(json.dumps(about), encoding="utf-8")
        about = {"last_narrow": _crossing(made, shapes, dtype, vocabulary)}
        (made / "about.json").write_text(json.dumps(about), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)


def need_compiler() -> None:
    """Raise RuntimeUnavailable where there is no C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        compiler = get_cpp_compiler()
    except InvalidCxxCompiler:
        compiler = None
    if compiler is None or shutil.which(compiler) is None:
        raise RuntimeUnavailable("there is no C++ compiler here: install g++ to have it compiled")


def _example(
    shapes: Sequence[Shape],
    dtype: torch.dtype,
    vocabulary: int,
    width: int,
    slots: int,
) -> tuple[Any, ...]:
    """Return what :meth:`_Unit.forward` takes, for a chain beside some tokens."""
    before = slots // 2
    order = torch.arange(before, before + width)
    held = torch.full((slots,), -1)
    held[:before] = torch.arange(before)
    keys, values = (
        [torch.zeros(slots, *layer[which], dtype=dtype) for layer in shapes] for which in (0, 1)
    )
    tokens = torch.arange(1, width + 1) % vocabulary
    seen = torch.ones(width, width, dtype=torch.bool).tril_()
    rows = torch.arange(width)  # and positions: a model may have few of them
    return tokens, torch.stack([rows, order]), rows, seen, rows.clone(), held, keys, values


def _export(step: Step, given: tuple[Any, ...]) -> Any:
    """Export a forward whose width, nodes, kept rows and slots are all free."""
    free = torch.export.Dim.DYNAMIC
    each, one = [{0: free} for _ in given[-1]], {0: free}
    shapes = (one, {1: free}, one, {0: free, 1: free}, one, one, each, each)
    return torch.export.export(_Unit(step), given, dynamic_shapes=shapes, strict=False)


def _package(program: Any, backend: str, to: Path, place: Path) -> None:
    """Compile an exported forward with one backend for its matrix products."""
    options = dict(FEW_ROWS) if backend == _BACKENDS[NARROW] else {}
    if any(node.target is _INT4 for node in program.graph.nodes):
        # the compiler (2.13) would look for the weights of products to join by a name with dots
        options.pop("cpp.enable_concat_linear", None)
    made = torch._inductor.aoti_compile_and_package(
        program,
        package_path=str(place / f"{to.stem}.pt2"),
        inductor_configs={
            "freezing": True,
            "cpp_wrapper": True,
            "max_autotune": True,
            "max_autotune_gemm_backends": backend,
            **options,
        },
    )
    with zipfile.ZipFile(made) as package:
        name = next(name for name in package.namelist() if name.endswith(".so"))
        with package.open(name) as source, to.open("wb") as target:
            shutil.copyfileobj(source, target)
    os.remove(made)


def _crossing(
    folder: Path,
    shapes: Sequence[Shape],
    dtype: torch.dtype,
    vocabulary: int,
) -> int:
    """Return the widest forward that the narrow package should run, by timing both in turn.

    The sum of what is gained up to there decides, not the first width that is lost: that may be
    another program's doing.
    """
    runtime = PackagedRuntime(folder, shapes, dtype)
    last, gained, most = 0, 0.0, 0.0
    for width in _TIMED:
        tokens, where, _, seen, _, held, keys, values = _example(
            shapes, dtype, vocabulary, width, _ROUND[1]
        )
        cache = SlotCache.over(keys, values, where[1])
        given = Inputs(tokens, where, seen, held, cache, _ROUND[1])
        least = {NARROW: math.inf, WIDE: math.inf}
        for _ in range(20):
            for part, edge in ((NARROW, width), (WIDE, 0)):
                runtime._last_narrow = edge
                least[part] = min(least[part], _seconds(runtime, given))
        gained += math.log(least[WIDE] / least[NARROW])
        if gained > most:
            last, most = width, gained
    return last


def _seconds(runtime: Runtime, given: Inputs) -> float:
    began = time.perf_counter()
    runtime.run(given)
    return time.perf_counter() - began
