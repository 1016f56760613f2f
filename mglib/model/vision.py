"""The frozen image encoder: a picture becomes a sequence of vision tokens."""

from pathlib import Path

import numpy
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from mglib.config import VisionConfig


def preprocess(image: Image.Image, config: VisionConfig) -> Tensor:
    """Squash a picture to the encoder's square and normalise it: (3, S, S) in float32.

    Resized without crop, bicubic (official `BlipImageEvalProcessor`): nothing at the border is lost.
    """
    size = (config.image_size, config.image_size)
    pixels = (
        numpy.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=numpy.float32) / 255
    )
    normal = (pixels - numpy.array(config.mean, dtype=numpy.float32)) / numpy.array(
        config.std, dtype=numpy.float32
    )
    return torch.from_numpy(normal).permute(2, 0, 1).contiguous()  # (3, S, S)


class Vision(nn.Module):
    """A frozen timm vision transformer."""

    def __init__(self, *, config: VisionConfig, attention: str = "sdpa") -> None:
        super().__init__()
        self.config = config
        self.encoder = timm.create_model(config.timm_name, img_size=config.image_size, num_classes=0)
        if config.depth is not None:
            self.encoder.blocks = self.encoder.blocks[: config.depth]
        if not config.final_norm:
            self.encoder.norm = nn.Identity()
        for block in self.encoder.blocks:
            block.attn.fused_attn = attention == "sdpa"
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, config: VisionConfig, state: Path, *, attention: str) -> "Vision":
        """Build the encoder and fill it from a safetensors state dict; every key must match."""
        vision = cls(config=config, attention=attention)
        vision.encoder.load_state_dict(load_file(state), strict=True)
        return vision

    def train(self, mode: bool = True) -> "Vision":
        """Stay in evaluation mode: a frozen encoder has no other."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode pictures (B, 3, S, S) into vision tokens (B, N, D_v), CLS first."""
        dtype = self.encoder.patch_embed.proj.weight.dtype
        tokens = self.encoder.forward_features(pixels.to(dtype))  # (B, 1 + patches, D_v)
        return pool_patches(tokens, self.config.pool)  # (B, N, D_v)


def pool_patches(tokens: Tensor, side: int) -> Tensor:
    """Average squares of `side` x `side` neighbouring patches: (B, 1 + P, D) -> (B, 1 + P / side^2, D).

    Deviation of the small profiles: a quarter of the tokens is four times cheaper to read and to keep.
    """
    if side == 1:
        return tokens
    B, N, D = tokens.shape
    grid = int((N - 1) ** 0.5)
    patches = tokens[:, 1:].transpose(1, 2).reshape(B, D, grid, grid)
    pooled = functional.avg_pool2d(patches, side).flatten(2).transpose(1, 2)  # (B, P / side^2, D)
    return torch.cat([tokens[:, :1], pooled], dim=1)
