"""``outpace doctor``: what is here, and what works here."""

import json
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from .. import registry, zoo
from ..data import VARIABLE, data_root
from ..errors import OutpaceError
from ..version import __version__

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "typer", "rich")


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> int:
    """Print versions, device and threads, and try the loop on a tiny model."""
    from .screen import loading

    with loading("trying the loop"):
        facts = {**_facts(), **_device()}
        checks = {**_checks(), **_entry_points()}
    if as_json:
        print(json.dumps({"facts": facts, "checks": checks}, indent=2, ensure_ascii=False))
    else:
        width = max(map(len, (*facts, *checks)))
        for name, fact in facts.items():
            print(f"{name:<{width}}  {fact}")
        print()
        for name, verdict in checks.items():
            print(f"{name:<{width}}  {verdict}")
    return 0 if all(not verdict.startswith("FAILED") for verdict in checks.values()) else 1


def _facts() -> dict[str, str]:
    root = data_root()
    facts = {"outpace": __version__, "python": f"{platform.python_version()} ({sys.executable})"}
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    facts["system"] = f"{platform.system()} {platform.machine()}"
    facts["embedded models"] = _embedded()
    facts["data"] = str(root) if root else f"none ({VARIABLE} names the folder)"
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    facts["hub"] = "off (HF_HUB_OFFLINE)" if offline else "on"
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    facts["C++ compiler"] = compiler or "none"
    for kind in ("drafter", "verifier", "lengths"):
        facts[f"{kind}s" if kind != "lengths" else kind] = _names(kind)
    return facts


def _names(kind: str) -> str:
    """Return the names of a kind, those of other packages with the package."""
    third_party = registry.third_party(kind)
    shown = []
    for name in registry.names(kind):
        packages = " and ".join(map(registry.package, third_party.get(name, [])))
        shown.append(f"{name} ({packages})" if packages else name)
    return ", ".join(shown)


def _entry_points() -> dict[str, str]:
    """Load what other packages add."""
    checks = {}
    for kind, word in registry.WORDS.items():
        for name in registry.third_party(kind):
            try:
                registry.get(kind, name)
                checks[f"{word} {name}"] = "can be loaded"
            except OutpaceError as error:
                checks[f"{word} {name}"] = f"FAILED: {error}"
    return checks


def _embedded() -> str:
    names = [zoo.PREFIX + name for name in (zoo.TARGET, *zoo.SIZES)]
    try:
        return ", ".join(name for name in names if zoo.folder(name))
    except OutpaceError as error:
        return str(error)


def _device() -> dict[str, str]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return {"device": f"unknown: torch cannot be imported ({_line(error)})"}

    facts = {
        "processor": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "threads": f"{torch.get_num_threads()} (OMP_NUM_THREADS sets them)",
    }
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        facts["device"] = f"cuda: {', '.join(names)}"
    else:
        facts["device"] = "cpu (no GPU that torch can use)"
    return facts | _precisions()


def _precisions() -> dict[str, str]:
    """Return which precisions below bfloat16 can be had, and why others cannot."""
    from ..models.load import resolve_device
    from ..models.precision import PRECISIONS, check_precision

    here, refused = [], {}
    for name in PRECISIONS:
        try:
            check_precision(name, resolve_device(None))
            here.append(name)
        except OutpaceError as error:
            refused[f"precision {name}"] = f"not here: {error}"
    return {"precisions": ", ".join(here) or "none", **refused}


def _checks() -> dict[str, str]:
    """Run the loop for real on a tiny model, per dtype, against decoding without a cache."""
    try:
        import torch

        from ..decoder import Decoder
        from ..models.load import resolve_device
        from ..models.tiny import tiny_model
        from ..reference import decode
        from ..sampling import Sampling
    except (ImportError, OSError) as error:
        return {"loop": f"FAILED: {_line(error)}"}

    def tried(dtype: torch.dtype, temperature: float) -> str:
        target = tiny_model(dtype=dtype, device=resolve_device(None))
        prompt = list(b"the cat and the dog and the cat and the dog")
        decoder = Decoder.from_pretrained(target, drafter="prompt-lookup")
        got = decoder.generate(prompt, max_new_tokens=32, temperature=temperature, seed=1)
        own = decode(
            lambda ids: target.stock_logits(ids.to(target.device)).cpu(),
            prompt,
            32,
            Sampling(temperature=temperature, seed=1),
            eos=target.eos_ids,
        )
        same = got.tokens == own
        if dtype is torch.float32:
            return "works: the text of plain decoding" if same else "FAILED: another text"
        return "works" if same else "works: the text differs in the last bits of this precision"

    checks = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        for label, temperature in (("greedy", 0.0), ("sampled", 0.8)):
            try:
                checks[f"loop, {name}, {label}"] = tried(dtype, temperature)
            except Exception as error:
                # whatever goes wrong on this machine is the answer that was asked for
                checks[f"loop, {name}, {label}"] = f"FAILED: {_line(error)}"
    return checks


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
