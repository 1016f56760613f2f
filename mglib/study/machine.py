"""The machine of a run: its processor and its speed in matrix products."""

import platform
import resource
from dataclasses import dataclass

import torch

from mglib.model.device import frozen_dtype, gflops, pick, processor


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine of a run, as far as the run's time depends on it."""

    processor: str
    threads: int
    dtype: str  # the precision of frozen weights, and of products in training
    gflops: float  # GFLOP/s of large products in this precision

    def __str__(self) -> str:
        return f"{self.processor}, {self.threads} threads, {self.gflops:,.3g} GFLOP/s in {self.dtype}"


def here() -> Machine:
    """Measure the processor that `pick` returns, in a second or two."""
    device = pick()
    dtype = frozen_dtype(device)
    return Machine(
        processor=processor(device),
        threads=torch.get_num_threads(),
        dtype=str(dtype).removeprefix("torch."),
        gflops=round(gflops(device, dtype), 1),
    )


def peak_bytes(device: torch.device) -> int:
    """Return this process's peak memory so far; on a GPU, that of its tensors."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if platform.system() == "Darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
