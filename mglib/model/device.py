"""Which processor to use, how fast it multiplies, and in which precision frozen weights run on it."""

import math
import platform
import subprocess
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

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


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a run is made on, as far as its time depends on it."""

    processor: str
    threads: int
    gflops: dict[str, float]  # of large products, by precision
    dtype: str  # the precision of frozen weights, and of products in training

    @property
    def ceiling(self) -> float:
        """GFLOP/s in the precision that is used."""
        return self.gflops[self.dtype]

    def __str__(self) -> str:
        speeds = ", ".join(f"{name} {value:,.3g} GFLOP/s" for name, value in self.gflops.items())
        return f"{self.processor}, {self.threads} threads: {speeds}; {self.dtype} is used"


def machine() -> Machine:
    """Measure the processor that `pick` returns, in a second or two."""
    device = pick()
    some = [torch.float32, *([] if device.type == "mps" else [torch.bfloat16]), frozen_dtype(device)]
    return Machine(
        processor=processor(device),
        threads=torch.get_num_threads(),
        gflops={_name(dtype): gflops(device, dtype) for dtype in some},
        dtype=_name(frozen_dtype(device)),
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def processor(device: torch.device) -> str:
    """Return what the processor is called."""
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


def attention(device: torch.device) -> str:
    """Return the faster attention of transformers: on a CPU, at these lengths, plain matrix products win."""
    return "eager" if device.type == "cpu" else "sdpa"
