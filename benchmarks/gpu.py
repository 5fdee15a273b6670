"""What a GPU gives: bash benchmarks/gpu.sh [--device cpu --shape tiny --tokens 16]

Writes one record, docs/results/gpu.json, and prints it as tables: the rate of a copy in memory and
the bound it sets to plain decoding; plain decoding, chains of 5 and the gate in every runtime, and
transformers' generate and assisted generation, in turn on the same prompts; whether the texts are
the same; the noise against the CPU's. Random weights at the sizes of Pythia-2.8B and 70M, float16,
synthetic acceptance. A part that fails or runs out of time is recorded, and the others go on.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

from budget import Parts
from common import RESULTS
from gpu_page import page
from outpace.bench import Models, Writing, environment, memory
from outpace.errors import OutpaceError
from outpace.models import LanguageModel
from outpace.models.load import resolve_device
from outpace.noise import Noise, Stream, hash_rows
from synthetic import GATE, in_runtime, methods, pair, prompts
from turns import Turns

ACCEPTANCE = 0.75
PROMPT_TOKENS = 64
COPIES = 20
RUNTIMES = ("graph", "compile", "eager")
"""Of our loop; on a CPU the last one alone: pythia160m.py has what is compiled there."""
OURS = ("plain", "draft@5", GATE)
COMPARING = 10
"""Seconds kept back for it."""
LIMITS = {"bandwidth": 20, "noise": 20, "load": 60, "graph": 60, "compile": 150, "texts": 60}
"""Seconds a part may take; the measuring has what is left."""


def copy_rate(device: torch.device) -> dict[str, float]:
    """Return the best rate of a copy in the device's memory, in bytes read and written a second."""
    size = 2**31 if device.type == "cuda" else 2**25
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(COPIES):
        _wait(device)
        began = time.perf_counter()
        target.copy_(source)
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return {"bytes": size, "bytes_per_second": 2 * size / best}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def noise_differences(device: torch.device, vocabulary: int) -> dict[str, Any]:
    """Compare the generator on the CPU and on the device: its bits, and what is made of them."""
    keys = torch.arange(-64, 64, dtype=torch.int64) * 0x9E3779B97F4A7C1
    here, there = hash_rows(keys, vocabulary), hash_rows(keys.to(device), vocabulary).cpu()
    cpu, own = (
        Noise(3).gumbel(range(64), vocabulary, place, Stream.COUPLED).cpu()
        for place in (torch.device("cpu"), device)
    )
    return {
        "bits_equal": bool((here == there).all()),
        "gumbel_equal": bool((cpu == own).all()),
        "gumbel_max_difference": float((cpu - own).abs().max()),
    }


def load(shape: str, dtype: str, device: torch.device, into: dict[str, Any]) -> Models:
    """Return the pair; note what it takes."""
    made: list[Models] = []
    grown = memory.measure(lambda: made.append(pair(shape, ACCEPTANCE, dtype, str(device))), device)
    models = made[0]
    assert models.drafter is not None
    into |= {
        "target": models.target.name,
        "drafter": models.drafter.name,
        "weight_bytes": [models.target.weight_bytes, models.drafter.weight_bytes],
        "bytes_per_token": bytes_per_token(models.target, PROMPT_TOKENS + into["tokens"] // 2),
        "load_growth_bytes": None if grown is None else grown[1],
    }
    return models


def bytes_per_token(model: LanguageModel, slots: int) -> int:
    """Return the bytes plain decoding has to read for a token: weights, keys and values.

    Of the embedding it reads one row.
    """
    core: Any = model.model
    embedding = core.get_input_embeddings().weight
    weights = model.weight_bytes - embedding.nbytes + embedding[0].nbytes
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = heads * config.hidden_size // config.num_attention_heads
    held = 2 * config.num_hidden_layers * width * slots * embedding.element_size()
    return int(weights + held)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run all parts; return the record."""
    device = resolve_device(options.device)
    record: dict[str, Any] = {
        "environment": environment(),
        "device": str(device),
        "shape": options.shape,
        "dtype": "float16" if device.type == "cuda" else "bfloat16",
        "acceptance": ACCEPTANCE,
        "tokens": options.tokens,
        "prompt_tokens": PROMPT_TOKENS,
    }
    parts = Parts(options.seconds, options.json, record)
    record["copy"] = parts.run("bandwidth", lambda: copy_rate(device), LIMITS["bandwidth"])
    record["noise"] = parts.run("noise", lambda: noise_differences(device, 50304), LIMITS["noise"])
    both = parts.run(
        "load", lambda: load(options.shape, record["dtype"], device, record), LIMITS["load"]
    )
    if both is None:
        return record
    made = methods(both, ("hf", "hf-assisted@5"))
    for runtime in RUNTIMES if device.type == "cuda" else RUNTIMES[-1:]:
        ready = both
        if runtime != "eager":
            ready = parts.run(runtime, lambda r=runtime: in_runtimes(both, r), LIMITS[runtime])
        made += methods(ready, OURS, runtime) if ready is not None else []
    texts = prompts(both.target.vocabulary, options.repeats + 1, PROMPT_TOKENS)
    # comparing comes last, and takes little unless texts differ
    turns = Turns(made, texts, Writing(options.tokens), lambda: parts.left - COMPARING)
    parts.run("measure", turns.run)
    record |= turns.as_dict()
    compared = parts.run("texts", lambda: turns.differences(both.target), LIMITS["texts"])
    record["differences"] = compared or {}
    parts.save()
    return record


def in_runtimes(both: Models, runtime: str) -> Models:
    """Return the pair in another runtime."""
    assert both.drafter is not None
    return Models(in_runtime(both.target, runtime), in_runtime(both.drafter, runtime))


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="where to run")
    parser.add_argument("--shape", default="pythia-2.8b", help="a pair of outpace.zoo.synthetic")
    parser.add_argument("--tokens", type=int, default=500, help="new ones of each text")
    parser.add_argument("--repeats", type=int, default=3, help="texts of each method at most")
    parser.add_argument("--seconds", type=float, default=450, help="budget for everything")
    parser.add_argument("--json", type=Path, default=RESULTS / "gpu.json", help="the record")
    options = parser.parse_args(arguments)
    try:
        record = run(options)
    except OutpaceError as error:
        parser.error(str(error))
    print(page(record))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
