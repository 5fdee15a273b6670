"""The energy a GPU takes, from its own counter, where the driver has one (NVML)."""

from __future__ import annotations

from collections.abc import Callable

import torch


def meter(device: torch.device) -> Callable[[], float] | None:
    """Return what reads joules since some moment in the past; None where there is no counter.

    The counter is the board's: another process on it is counted too. It needs the package
    nvidia-ml-py (the extra ``energy``) and a chip of the generation of Volta or a later one.
    """
    if device.type != "cuda":
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        properties = torch.cuda.get_device_properties(device)
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}")

        def read() -> float:
            torch.cuda.synchronize(device)  # what was asked of the GPU belongs to it
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000

        read()
    except Exception:  # no package, no driver, no right to ask, no counter: each of its own kind
        return None
    return read
