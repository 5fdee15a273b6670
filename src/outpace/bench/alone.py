"""What one method or one precision needs, measured in a process of its own.

Memory says something only where nothing else was in the process before: what earlier models left
behind, pages and pools, is part of any later figure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import OutpaceError
from ..models import load
from . import memory
from .divergence import Laws, Quality, examine
from .measured import weights_of
from .methods import Models
from .names import needs_drafter
from .plan import make_method
from .sample import Writing
from .workloads import BenchPrompt

_KILLED = 9
_WARM = 16
"""New tokens of the text before the one whose memory counts."""


@dataclass(slots=True)
class Errand:
    """What a process is started for.

    Attributes:
        target: the model's name.
        dtype: its precision.
        device: where.
        runtime: how forwards run.
        threads: of the processor; None leaves them as they are.
        method: whose memory to measure, without precisions in its name; None is none.
        drafter: a draft model's name; None is none.
        drafter_dtype: its precision; None is the target's.
        draft_length: as in a benchmark.
        prompt: to write on from.
        writing: how.
        texts: token ids to read and weigh; none at all is no quality.
        reference: a file of laws to compare with.
        keep: a file to leave laws in.
    """

    target: str
    dtype: str
    device: str = "auto"
    runtime: str = "auto"
    threads: int | None = None
    method: str | None = None
    drafter: str | None = None
    drafter_dtype: str | None = None
    draft_length: int | str = "gate"
    prompt: BenchPrompt | None = None
    writing: Writing = field(default_factory=Writing)
    texts: Sequence[Sequence[int]] = ()
    reference: str | None = None
    keep: str | None = None


@dataclass(slots=True)
class Found:
    """What it came back with.

    Attributes:
        parameters: of the target.
        weights: bytes of each model, the target first.
        loading: highest memory, in bytes, until all was loaded; None where the system does not
            tell, likewise what follows.
        peak: while a text was written.
        growth: how far that is above what was there before it.
        reserved: of a GPU, what torch took for itself.
        quality: of the target.
        refused: why it cannot be had; None where all went well.
        ran_out: whether memory was the reason.
    """

    parameters: int = 0
    weights: dict[str, int] = field(default_factory=dict)
    loading: int | None = None
    peak: int | None = None
    growth: int | None = None
    reserved: int | None = None
    quality: Quality | None = None
    refused: str | None = None
    ran_out: bool = False


def alone(errand: Errand) -> Found:
    """Run an errand in a process of its own.

    Raises:
        RuntimeError: it failed for a reason that nobody foresaw, whose last line it says.
    """
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(asdict(errand)),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode in {-_KILLED, 128 + _KILLED}:
        return Found(refused="killed, as a system does that is short of memory", ran_out=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(
            f"{errand.target} in {errand.dtype}, in a process of its own: {said[-1]}"
        )
    answer = json.loads(done.stdout.splitlines()[-1])
    quality = answer.pop("quality")
    return Found(**answer, quality=None if quality is None else Quality(**quality))


def run(errand: Errand) -> Found:
    """Do what an errand says, here."""
    try:
        return _run(errand)
    except (OutpaceError, MemoryError, RuntimeError) as error:
        short = memory.ran_out(error)
        if not short and not isinstance(error, OutpaceError):
            raise
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Found(refused=f"out of memory ({line})" if short else line, ran_out=short)


def _run(errand: Errand) -> Found:
    if errand.threads is not None:
        torch.set_num_threads(errand.threads)
    target = load(errand.target, dtype=errand.dtype, device=errand.device)
    models = Models(target, None, drafter_dtype=errand.drafter_dtype)
    method = errand.method
    if method is not None and errand.drafter is not None and needs_drafter(method):
        own = errand.drafter_dtype or errand.dtype
        models = Models(target, load(errand.drafter, dtype=own, device=errand.device))
    for model in (target, *([models.drafter] if models.drafter else [])):
        model.use_runtime(errand.runtime, wait=True)
    found = Found(target.parameters, {target.name: target.weight_bytes})
    if method is not None and errand.prompt is not None:
        made = make_method(method, models, errand.draft_length)
        found.weights = dict(weights_of(made.models_used))
        short = Writing(min(_WARM, errand.writing.max_new_tokens))
        with made.ready():
            made.write(errand.prompt, short)
        found.loading = memory.highest(target.device)
        prompt, writing = errand.prompt, errand.writing
        with made.ready():
            peak = memory.measure(lambda: made.write(prompt, writing), target.device)
        found.peak, found.growth = peak or (None, None)
        found.reserved = memory.reserved(target.device)
    if errand.texts:
        reference = None if errand.reference is None else Laws(Path(errand.reference))
        keep = None if errand.keep is None else Laws(Path(errand.keep))
        found.quality = examine(target, errand.texts, reference=reference, keep=keep)
    return found


def read(values: Mapping[str, Any]) -> Errand:
    """Return the errand that :func:`dataclasses.asdict` made these values of."""
    prompt = values["prompt"]
    if prompt is not None:
        prompt = BenchPrompt(**{**prompt, "turns": tuple(prompt["turns"])})
    return Errand(**{**values, "prompt": prompt, "writing": Writing(**values["writing"])})


def main() -> int:
    """Read an errand from standard input, and answer on standard output."""
    errand = read(json.loads(sys.stdin.read()))
    with redirect_stdout(sys.stderr):  # whatever libraries say there is no answer
        found = run(errand)
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
