"""Which processor to use, and in which precision frozen weights run on it."""

import torch


def pick() -> torch.device:
    """Return cuda, else mps, else cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def frozen_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the processor multiplies it natively, else float32.

    A processor without bfloat16 instructions emulates them, several times slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu":
        features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        native = any(features.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
        return torch.bfloat16 if native else torch.float32
    return torch.float32


def attention(device: torch.device) -> str:
    """Return the faster attention of transformers: on a CPU, at these lengths, plain matrix products win."""
    return "eager" if device.type == "cpu" else "sdpa"
