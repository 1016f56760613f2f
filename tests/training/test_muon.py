"""Muon: the same steps as torch's if both multiply in bfloat16, and products in the given precision."""

import torch
from torch import nn

from mglib.training.muon import Muon

SHAPES = ((48, 48), (96, 32), (32, 96), (1, 16))


def after(make, random, *, steps=4):
    """Return parameters after some steps down a fixed sequence of gradients."""
    random.manual_seed(1)
    parameters = [nn.Parameter(torch.randn(shape, generator=random)) for shape in SHAPES]
    optimizer = make(parameters)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=random)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def ours(dtype):
    return lambda parameters: Muon(parameters, lr=0.1, weight_decay=0.05, dtype=dtype)


def torchs(parameters):
    return torch.optim.Muon(parameters, lr=0.1, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")


def test_in_bfloat16_it_steps_as_torch_does(random):
    for mine, theirs in zip(after(ours(torch.bfloat16), random), after(torchs, random), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)


def test_products_are_in_the_named_precision(random):
    seen = set()

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func._opname == "addmm":
                seen.add(args[1].dtype)
            return func(*args, **(kwargs or {}))

    with Watch():
        after(ours(torch.float32), random, steps=1)
    assert seen == {torch.float32}
