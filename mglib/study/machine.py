"""What a run is made on: its processor, and how fast that multiplies."""

import platform
import resource
from dataclasses import dataclass

import torch

from mglib.model.device import frozen_dtype, gflops, pick, processor


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


def here() -> Machine:
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


def peak_bytes(device: torch.device) -> int:
    """Return the most memory that this process has held so far, on a GPU that of its tensors."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if platform.system() == "Darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
