"""Attention for CPUs: plain matrix products in which heads that share keys read them once.

transformers' eager attention repeats the keys for each head; the fused one is slow for a single new token.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

GROUPED = "grouped"  # the name registered with transformers


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attend from H heads to G sets of keys (Ainslie et al. 2023), softmax in float32, without dropout.

    `query` (B, H, S, D), `key` and `value` (B, G, T, D), `attention_mask` (B, 1, S, T) to be added; returns
    (B, S, H, D) and the weights (B, H, S, T).
    """
    B, H, S, D = query.shape
    G, T = key.shape[1:3]
    scores = query.reshape(B, G, H // G * S, D) @ key.transpose(2, 3) * scaling  # (B, G, HS / G, T)
    scores = scores.view(B, H, S, T)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
    mixed = weights.view(B, G, H // G * S, T) @ value  # (B, G, HS / G, D)
    return mixed.view(B, H, S, D).transpose(1, 2).contiguous(), weights


ALL_ATTENTION_FUNCTIONS.register(GROUPED, grouped_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(GROUPED, eager_mask)
