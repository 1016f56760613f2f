"""Which processor to use, and in which precision frozen weights run on it."""

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
    """Return bfloat16 where the processor multiplies it faster than float32, else float32.

    A CPU is measured, not asked: some have the instructions and are slower with them.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if device.type == "cpu" and bf16_speedup() > 1.2 else torch.float32


@lru_cache
def bf16_speedup() -> float:
    """Return how many times as fast this CPU multiplies in bfloat16 as in float32."""
    best = {torch.float32: math.inf, torch.bfloat16: math.inf}
    for _ in range(5):
        for dtype in best:
            matrix = torch.ones(768, 768, dtype=dtype)
            start = time.perf_counter()
            matrix @ matrix
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.float32] / best[torch.bfloat16]


def attention(device: torch.device) -> str:
    """Return the faster attention of transformers: on a CPU, at these lengths, plain matrix products win."""
    return "eager" if device.type == "cpu" else "sdpa"
