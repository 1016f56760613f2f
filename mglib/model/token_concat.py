"""The LLaMA-2 variant of the official code has no Q-Former: neighbouring vision tokens are joined."""

import torch
from torch import Tensor, nn

from mglib.config import ConcatConfig


class Concat(nn.Module):
    """Takes the Q-Former's place (official `minigpt4.py`, `has_qformer: False`).

    `ln_vision` stays at ones and zeros and is not trained: the official code loads no BLIP-2 file here.
    """

    def __init__(self, *, config: ConcatConfig) -> None:
        super().__init__()
        if (config.tokens - 1) % config.neighbours:
            raise ValueError(
                f"{config.tokens - 1} patches cannot be joined by {config.neighbours}: choose a divisor."
            )
        self.config = config
        self.ln_vision = nn.LayerNorm(config.vision_width, eps=1e-5)
        self.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Drop CLS and concatenate runs of neighbouring tokens: (B, N, D_v) -> (B, Q, D_q)."""
        B = len(tokens)
        seen = self.ln_vision(tokens.to(self.ln_vision.weight.dtype))
        return torch.reshape(seen[:, 1:], (B, self.config.queries, self.config.width))  # (B, Q, D_q)
