"""Which processor, precision and attention are picked."""

import pytest
import torch

from mglib.model import device

CPU = torch.device("cpu")


@pytest.fixture
def unmeasured(monkeypatch, tmp_path):
    """Set up a machine whose precision has not been measured yet."""
    monkeypatch.delenv(device.PRECISION, raising=False)
    monkeypatch.setattr(device, "MEASURED", tmp_path / "precision.json")
    device.measured_precision.cache_clear()
    yield
    device.measured_precision.cache_clear()


@pytest.mark.parametrize(
    ("speedup", "dtype"), [(2.2, torch.bfloat16), (1.1, torch.float32), (0.5, torch.float32)]
)
def test_a_cpu_computes_in_bfloat16_only_where_that_is_clearly_faster(
    monkeypatch, unmeasured, speedup, dtype
):
    monkeypatch.setattr(device, "bf16_speedup", lambda: speedup)
    assert device.frozen_dtype(CPU) == dtype


def test_the_precision_is_measured_once_a_machine_and_kept(monkeypatch, unmeasured):
    monkeypatch.setattr(device, "bf16_speedup", lambda: 2.0)
    assert device.frozen_dtype(CPU) == torch.bfloat16
    device.measured_precision.cache_clear()  # another process, at a busy moment
    monkeypatch.setattr(device, "bf16_speedup", lambda: 0.5)
    assert device.frozen_dtype(CPU) == torch.bfloat16
    device.measured_precision.cache_clear()  # another machine that shares the folder
    monkeypatch.setattr(device, "processor", lambda _: "another processor")
    assert device.frozen_dtype(CPU) == torch.float32


def test_a_busy_moment_does_not_decide_the_speedup(monkeypatch):
    device.bf16_speedup.cache_clear()
    speeds = {
        torch.float32: iter([100, 100, 90, 100, 100, 100]),
        torch.bfloat16: iter([20, 50, 200, 190, 200, 10]),
    }
    monkeypatch.setattr(device, "_gflops", lambda _, dtype: next(speeds[dtype]))
    assert device.bf16_speedup() == 2.0
    device.bf16_speedup.cache_clear()


def test_the_precision_can_be_set(monkeypatch, unmeasured):
    monkeypatch.setenv(device.PRECISION, "bfloat16")
    assert device.frozen_dtype(CPU) == torch.bfloat16
    monkeypatch.setenv(device.PRECISION, "fp8")
    with pytest.raises(ValueError, match="fp8 is not a precision: choose one of bfloat16, float32"):
        device.frozen_dtype(CPU)


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_an_nvidia_card_without_bfloat16_holds_frozen_weights_in_float16(monkeypatch, native, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: native)
    assert device.frozen_dtype(torch.device("cuda")) == dtype


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
def test_a_gpu_computes_in_bfloat16_where_it_has_the_instructions():
    native = torch.cuda.get_device_capability() >= (8, 0)
    assert device.frozen_dtype(torch.device("cuda")) == (torch.bfloat16 if native else torch.float16)


def test_apples_gpu_computes_in_float32_and_plain_products_are_for_the_cpu_alone():
    apple, card = torch.device("mps"), torch.device("cuda")
    assert device.frozen_dtype(apple) == torch.float32
    assert [device.attention(place) for place in (CPU, apple, card)] == ["grouped", "sdpa", "sdpa"]
