"""Which processor, precision and attention are picked."""

import pytest
import torch

from mglib.model import device

CPU = torch.device("cpu")


def test_a_cpu_is_picked_where_there_is_nothing_else():
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert device.pick() == torch.device(best)


@pytest.mark.parametrize(
    ("speedup", "dtype"), [(2.2, torch.bfloat16), (1.1, torch.float32), (0.5, torch.float32)]
)
def test_a_cpu_computes_in_bfloat16_only_where_that_is_clearly_faster(monkeypatch, speedup, dtype):
    monkeypatch.setattr(device, "bf16_speedup", lambda: speedup)
    assert device.frozen_dtype(CPU) == dtype


def test_the_speed_of_bfloat16_is_measured_once():
    first = device.bf16_speedup()
    assert first > 0
    assert device.bf16_speedup() == first


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_an_nvidia_card_without_bfloat16_holds_frozen_weights_in_float16(monkeypatch, native, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: native)
    assert device.frozen_dtype(torch.device("cuda")) == dtype


def test_other_processors_compute_in_float32():
    assert device.frozen_dtype(torch.device("mps")) == torch.float32


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
def test_a_gpu_computes_in_bfloat16_where_it_has_the_instructions():
    native = torch.cuda.get_device_capability() >= (8, 0)
    assert device.frozen_dtype(torch.device("cuda")) == (torch.bfloat16 if native else torch.float16)


def test_plain_products_are_for_the_cpu_alone():
    assert device.attention(CPU) == "eager"
    assert device.attention(torch.device("cuda")) == device.attention(torch.device("mps")) == "sdpa"
