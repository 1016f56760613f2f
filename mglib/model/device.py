"""Which processor to use, how fast it multiplies, and in which precision frozen weights run on it."""

import json
import math
import os
import platform
import subprocess
import time
from functools import cache, lru_cache
from pathlib import Path

import torch

from mglib.model.attention import GROUPED
from mglib.paths import CACHE, write_json

PRECISION = "MGLIB_PRECISION"  # the environment variable that overrides the measurement on a CPU
PRECISIONS = ("bfloat16", "float32")
MEASURED = CACHE / "precision.json"


def pick() -> torch.device:
    """Return cuda, else mps, else cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def frozen_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the processor multiplies it faster than float32, float16 on older NVIDIA GPUs, else
    float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return getattr(torch, cpu_precision()) if device.type == "cpu" else torch.float32


def cpu_precision() -> str:
    """Return the precision named by MGLIB_PRECISION, else the faster one, measured once per machine.

    Some CPUs have bfloat16 instructions but are slower with them, hence the measurement. Its result is kept
    in data/cache, so that a busy moment never changes it. Raises ValueError for an unknown precision.
    """
    wanted = os.environ.get(PRECISION, "")
    if wanted and wanted not in PRECISIONS:
        raise ValueError(f"{PRECISION}={wanted} is not a precision: choose one of {', '.join(PRECISIONS)}.")
    return wanted or measured_precision()


@cache
def measured_precision() -> str:
    """Return this machine's precision from data/cache, or measure it and keep the measurement there."""
    machine = {"processor": processor(torch.device("cpu")), "torch": torch.__version__}
    kept = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    if machine.items() <= kept.items():
        return kept["dtype"]
    dtype = "bfloat16" if bf16_speedup() > 1.2 else "float32"
    write_json(MEASURED, {**machine, "dtype": dtype, "bfloat16 over float32": round(bf16_speedup(), 2)})
    return dtype


@cache
def bf16_speedup(agreeing: int = 4) -> float:
    """Return the speedup of this CPU's matrix products in bfloat16 over float32.

    Both are measured in turn, best of all rounds, until `agreeing` rounds in a row agree within 10 %.
    """
    best = dict.fromkeys(PRECISIONS, 0.0)
    ratios: list[float] = []
    while len(ratios) < agreeing or max(ratios[-agreeing:]) > 1.1 * min(ratios[-agreeing:]):
        for name in PRECISIONS:
            best[name] = max(best[name], _gflops(torch.device("cpu"), getattr(torch, name)))
        ratios.append(best["bfloat16"] / best["float32"])
    return ratios[-1]


@lru_cache
def gflops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the GFLOP/s of large matrix products, the ceiling for all else; measured once per process."""
    return _gflops(device, dtype)


def _gflops(device: torch.device, dtype: torch.dtype) -> float:
    # An emulated precision takes seconds for a large product, so a small one is tried first.
    small = _best_gflops(device, dtype, side=256, rounds=2)
    if small < 4:  # a hundredth of what a two-core processor reaches
        return small
    return _best_gflops(device, dtype, side=1024, rounds=8)


def _best_gflops(device: torch.device, dtype: torch.dtype, *, side: int, rounds: int) -> float:
    best, matrix = math.inf, torch.ones(side, side, dtype=dtype, device=device)
    for _ in range(rounds):
        start = time.perf_counter()
        (matrix @ matrix).sum().item()  # `item` waits for a GPU
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e9


def attention(device: torch.device) -> str:
    """Return the faster attention: on a CPU, at these lengths, plain matrix products win."""
    return GROUPED if device.type == "cpu" else "sdpa"


def processor(device: torch.device) -> str:
    """Return the processor's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "Apple"
    return platform.processor() or platform.machine()
