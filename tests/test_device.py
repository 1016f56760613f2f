"""Which processor, precision and attention are picked."""

import platform
from pathlib import Path

import pytest
import torch

from mglib import device

CPU = torch.device("cpu")


def test_a_cpu_is_picked_where_there_is_nothing_else():
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert device.pick() == torch.device(best)


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(),
    reason="compares with the flags of an x86 processor in /proc/cpuinfo",
)
def test_a_cpu_computes_in_bfloat16_only_where_it_has_the_instructions():
    flags = set(Path("/proc/cpuinfo").read_text().split())
    native = bool(flags & {"avx512_bf16", "amx_bf16"})
    assert device.frozen_dtype(CPU) == (torch.bfloat16 if native else torch.float32)


def test_other_processors_compute_in_float32():
    assert device.frozen_dtype(torch.device("mps")) == torch.float32


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
def test_a_gpu_computes_in_bfloat16_where_it_has_the_instructions():
    native = torch.cuda.get_device_capability() >= (8, 0)
    assert device.frozen_dtype(torch.device("cuda")) == (torch.bfloat16 if native else torch.float32)


def test_plain_products_are_for_the_cpu_alone():
    assert device.attention(CPU) == "eager"
    assert device.attention(torch.device("cuda")) == device.attention(torch.device("mps")) == "sdpa"
