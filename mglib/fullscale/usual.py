"""The usual way, as a peer: transformers' BLIP-2, which sees pictures at each step and scores all
positions.
"""

import torch
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    Blip2Config,
    Blip2ForConditionalGeneration,
    PretrainedConfig,
)

from mglib.config import Profile, QFormerConfig
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.vision import Vision


def blip2_queries(profile: Profile) -> QFormerConfig:
    """Return the Q-Former of the profile or, where it has none, of the BLIP-2 release."""
    return profile.qformer if isinstance(profile.qformer, QFormerConfig) else QFormerConfig()


def usual_blip2(
    profile: Profile, language: PretrainedConfig, dtype: torch.dtype
) -> Blip2ForConditionalGeneration:
    """Return transformers' own BLIP-2 in the same shapes with random weights, all frozen but its projection.

    Its Q-Former looks at every token of the encoder, of which ours may pool some. Built on torch's default
    device.
    """
    vision, qformer = profile.vision, blip2_queries(profile)
    with torch.device("meta"):
        blocks = Vision(config=vision).encoder.blocks
    config = Blip2Config(
        vision_config={
            "hidden_size": vision.width,
            "intermediate_size": blocks[0].mlp.fc1.out_features,
            "num_hidden_layers": len(blocks),
            "num_attention_heads": blocks[0].attn.num_heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "initializer_range": 0.02,
        },
        qformer_config={
            "hidden_size": qformer.width,
            "intermediate_size": 4 * qformer.width,
            "num_hidden_layers": qformer.layers,
            "num_attention_heads": qformer.heads,
            "encoder_hidden_size": vision.width,
            "cross_attention_frequency": qformer.cross_attention_frequency,
        },
        text_config=language.to_dict(),
        num_query_tokens=qformer.queries,
        image_token_index=language.vocab_size - 1,  # in no caption here
    )
    model = AutoModelForImageTextToText.from_config(config, dtype=dtype).eval()
    model.requires_grad_(False)
    model.language_projection.requires_grad_(True)
    return model


def beside_ours(profile: Profile, ours: MiniGPT4, dtype: torch.dtype) -> Blip2ForConditionalGeneration:
    """Return the usual BLIP-2 where ours is, with our language model and, where they have one shape, a copy
    of our projection.
    """
    with ours.projection.weight.device:
        model = usual_blip2(profile, ours.language.model.config, dtype)
    model.language_model = ours.language.model
    if isinstance(profile.qformer, QFormerConfig):
        model.language_projection.load_state_dict(ours.projection.state_dict())
    return model


def usual_step(model: Blip2ForConditionalGeneration, batch: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """One training step from pictures as transformers makes it; returns the mean loss an answer token."""
    layout = {
        "input_ids": batch["ids"].masked_fill(batch["slots"], model.config.image_token_id),
        "attention_mask": batch["mask"],
        "labels": batch["labels"],
    }
    loss = model(pixel_values=pixels.to(model.dtype), **layout).loss
    loss.backward()
    return loss.detach()
