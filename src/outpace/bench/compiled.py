"""The baseline that has the compiler too: transformers' own loop, static cache, compiled forward.

Without it a table would sell as a gain of the loop what is a gain of the compiler. It is set up as
strongly as transformers allows: one static cache for all texts, made for the longest of them, so
that one graph serves every token of every text; compiled before anything counts; weights frozen
into the graph and matrix products chosen by measurement, as in a compiled run of the loop.
"""

import io
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from typing import Any

import torch
import torch._inductor.config as inductor
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from torch._dynamo.utils import counters
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from transformers import CompileConfig, GenerationConfig, StaticCache
from transformers.generation.streamers import BaseStreamer

from ..errors import InvalidArgument, UnsupportedModel
from ..models.packages import FEW_ROWS
from ..models.products import pairwise
from ..models.step import cache_keyword
from .baselines import HuggingFace, Watch, kv_bytes
from .methods import Models
from .sample import Writing
from .workloads import BenchPrompt

CPU_OPTIONS: dict[str, bool | str | int] = {
    "max_autotune": True,
    "max_autotune_gemm_backends": "CPP,ATEN",
    "freezing": True,
    "cpp_wrapper": True,
    **FEW_ROWS,
}
"""Inductor's options on a CPU, as in our own runtime, whose kernel it has too; on a GPU
transformers' own ``reduce-overhead`` is used."""
ROUNDED = 16
"""The cache has a multiple of so many slots: whole vectors, whatever the processor."""


class Compiled(HuggingFace):
    """``generate`` of transformers with a static cache and its forward compiled.

    The prefill is not compiled: transformers leaves it out, since its width is another each time.

    Raises:
        InvalidArgument: there is no C++ compiler, which Inductor needs on a CPU.
    """

    def __init__(self, name: str, models: Models) -> None:
        super().__init__(name, models)
        self._on_cpu = self.target.device.type == "cpu"
        if self._on_cpu:
            _check_compiler(name)
        self._config_of_compiler = _compile_config(self._on_cpu)
        self._calls: _Calls | None = None
        self._cache: StaticCache | None = None
        self._slots = 0
        self._graphs = 0
        self._took = 0.0

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Have transformers find the compiled forward; the model is as before afterwards."""
        with ExitStack() as stack:
            stack.enter_context(super().ready())
            if self._on_cpu:
                # Dynamo asks this setting, not the options, whether weights become constants:
                # with the options alone a forward takes twice as long. Without caches: what a busy
                # machine has chosen once would make a weak baseline for ever
                stack.enter_context(inductor.patch(freezing=True, force_disable_caches=True))
                stack.enter_context(pairwise())
            stack.enter_context(self._installed())
            graphs = counters["stats"]["unique_graphs"]
            yield
            self._graphs += counters["stats"]["unique_graphs"] - graphs

    def prepare(self, prompts: list[BenchPrompt], writing: Writing) -> Iterator[str]:
        """Make the cache that holds the longest text, and compile for it, a minute or so.

        Raises:
            UnsupportedModel: the compiler does not take this model.
        """
        with self.ready():
            self._reserve(
                max(self._ids(one.text).shape[1] for one in prompts) + writing.max_new_tokens
            )
        began = time.perf_counter()
        try:
            with self.ready(), _silent():
                # the first new token comes of the prefill, later ones of the compiled forward
                self.write(prompts[0], Writing(min(3, writing.max_new_tokens)))
        except TorchDynamoException as error:
            why = str(error).partition("raised:\n")[2] or str(error)
            why = why.strip().partition("\n")[0].rstrip(".")
            raise UnsupportedModel(
                f"{self.name}: {self.target.name} cannot be compiled ({why}): leave it out of "
                "--methods"
            ) from error
        self._took = time.perf_counter() - began
        yield f"compiled in {self._took:.0f} s"

    @property
    def settings(self) -> dict[str, Any]:
        """How it was compiled, how often (once is right), and for how many slots."""
        return {
            **super().settings,
            "compiler": CPU_OPTIONS if self._on_cpu else self._config_of_compiler.mode,
            "graphs": self._graphs,
            "compile_seconds": self._took,
            "slots": self._slots,
        }

    def _generate(
        self,
        ids: Tensor,
        config: GenerationConfig,
        streamer: BaseStreamer | None = None,
        **more: Any,
    ) -> Any:
        assert config.max_new_tokens is not None
        self._reserve(ids.shape[1] + config.max_new_tokens)
        return super()._generate(ids, config, streamer)  # always with its one cache

    def _kept(self, out: Any, prompt: BenchPrompt) -> Any:
        return None  # each answer begins with its one cache, empty

    def _kv_bytes(self, watched: list[Watch]) -> int:
        return kv_bytes(self._cache)

    def _options(self) -> dict[str, Any]:
        return {"compile_config": self._config_of_compiler}

    def _partners(self) -> dict[str, Any]:
        return {cache_keyword(self.target.model): self._cache}

    def _watches(self, stack: ExitStack) -> list[Watch]:
        # a hook on the model would be compiled in, and the graph another one for each text
        assert self._calls is not None
        return [_Counted(self._calls)]

    def _reserve(self, length: int) -> None:
        """Empty the cache, or make one where there is none that holds ``length`` tokens."""
        if self._cache is not None and self._slots >= length:
            self._cache.reset()
            return
        self._slots = -(-length // ROUNDED) * ROUNDED
        self._cache = StaticCache(config=self.target.config, max_cache_len=self._slots)

    @contextmanager
    def _installed(self) -> Iterator[None]:
        """Put the compiled forward where ``generate`` looks for it."""
        model: Any = self.target.model
        if self._calls is None:
            made = torch.compile(model.__call__, **self._config_of_compiler.to_dict())
            self._calls = _Calls(made)
        found = {"_compiled_call": self._calls, "_last_compile_config": self._config_of_compiler}
        before = {name: model.__dict__.get(name) for name in found}
        model.__dict__.update(found)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del model.__dict__[name]
                else:
                    model.__dict__[name] = value


class _Calls:
    """A compiled forward that counts how often it is called."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self._forward = forward
        self.count = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return self._forward(*args, **kwargs)


class _Counted(Watch):
    """What a text did, from the count of compiled forwards: one token each, after the prefill."""

    def __init__(self, calls: _Calls) -> None:
        super().__init__()
        self._calls, self._before = calls, calls.count

    def over(self, prompt: int) -> list[int]:
        return [prompt] + [1] * (self._calls.count - self._before)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the compiler's tables of choices, and its warnings of its own code, off the screen."""
    with redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _compile_config(on_cpu: bool) -> CompileConfig:
    if not on_cpu:
        return CompileConfig(mode="reduce-overhead")
    # torch takes a mode or options, not both
    mode: Any = None
    options = {**CPU_OPTIONS, "guard_filter_fn": _guards_kept}
    config = CompileConfig(fullgraph=True, dynamic=False, mode=mode, options=options)
    made: Any = config
    made._compile_all_devices = True  # transformers compiles on accelerators alone by itself
    return config


def _guards_kept(guards: Sequence[Any]) -> list[bool]:
    """Keep what is checked of tensors and identities, weights among them.

    The hundreds of others are of modules, whose insides do not change from token to token; checking
    them takes about 50 µs a token.
    """
    return [guard.guard_type in {"ID_MATCH", "TENSOR_MATCH"} for guard in guards]


def _check_compiler(name: str) -> None:
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise InvalidArgument(
            f"method {name!r} needs a C++ compiler on a CPU and finds none: install g++ (or name "
            "one in CXX), or leave it out of --methods"
        ) from error
