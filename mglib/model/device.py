"""Which processor to use, how fast it multiplies, and in which precision frozen weights run on it."""

import math
import time
from functools import lru_cache

import torch


def pick() -> torch.device:
    """Return cuda, else mps, else cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def frozen_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the processor multiplies it faster than float32, which a CPU is measured for, not
    asked (some have the instructions and are slower), float16 on older NVIDIA cards, else float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if device.type == "cpu" and bf16_speedup() > 1.2 else torch.float32


def bf16_speedup() -> float:
    """Return how many times as fast this CPU multiplies in bfloat16 as in float32."""
    cpu = torch.device("cpu")
    return gflops(cpu, torch.bfloat16) / gflops(cpu, torch.float32)


@lru_cache
def gflops(device: torch.device, dtype: torch.dtype) -> float:
    """Return how many GFLOP/s large products reach: the ceiling for all else. Measured once, best of a few.

    An emulated precision takes seconds for a large product, so a small one is tried first.
    """
    small = _best_gflops(device, dtype, side=256, rounds=2)
    if small < 4:  # a hundredth of what a processor of two cores does
        return small
    return _best_gflops(device, dtype, side=1024, rounds=8)


def _best_gflops(device: torch.device, dtype: torch.dtype, *, side: int, rounds: int) -> float:
    best, matrix = math.inf, torch.ones(side, side, dtype=dtype, device=device)
    for _ in range(rounds):
        start = time.perf_counter()
        (matrix @ matrix).sum().item()  # the sum waits for a GPU
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e9


def attention(device: torch.device) -> str:
    """Return the faster attention of transformers: on a CPU, at these lengths, plain matrix products win."""
    return "eager" if device.type == "cpu" else "sdpa"
