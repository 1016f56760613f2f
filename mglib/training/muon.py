"""Muon (Jordan et al. 2024) with its products in a given precision."""

from collections.abc import Iterable

import torch
from timm.optim.muon import MUON_EPS, zeropower_via_newtonschulz
from torch import nn

COEFFICIENTS = [(3.4445, -4.7750, 2.0315)]  # Keller Jordan's
STEPS = 5  # of Newton-Schulz
MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    """Update matrices along the orthogonal matrix nearest to their gradients' moving average (with Nesterov
    momentum), at rates comparable to AdamW's (0.2 times the root of the longer side, Liu et al. 2025).

    Like `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`, which multiplies in bfloat16 on any processor:
    one that has to emulate it takes forty times as long for a 1024 x 256 matrix. Here the products are in
    `dtype`. They cost the same for any batch size: 47 GFLOP per step for mini's Q-Former, as much as encoding
    four pictures, so large batches hide it.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], *, lr: float, weight_decay: float, dtype: torch.dtype
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for matrix in (parameter for parameter in group["params"] if parameter.grad is not None):
                if not self.state[matrix]:
                    self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix.grad)
                average = self.state[matrix]["momentum_buffer"].lerp_(matrix.grad, 1 - MOMENTUM)
                ahead = matrix.grad.lerp(average, MOMENTUM)
                update = zeropower_via_newtonschulz(ahead, STEPS, COEFFICIENTS, MUON_EPS, dtype=self.dtype)
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)
