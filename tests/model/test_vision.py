"""The frozen encoder: how pictures are prepared, which tokens come out, and that nothing in it moves."""

from dataclasses import replace

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mglib.model.vision import Vision, pool_patches, preprocess


def plain(config):
    """Turn normalisation off: colours stay between 0 and 1."""
    return replace(config, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def test_colours_are_normalised_channel_by_channel(vision_config):
    pixels = preprocess(Image.new("RGB", (10, 10), (255, 51, 0)), vision_config)
    expected = [(1 - 0.48145466) / 0.26862954, (0.2 - 0.4578275) / 0.26130258, -0.40821073 / 0.27577711]
    assert pixels.dtype == torch.float32
    for channel, value in zip(pixels, expected, strict=True):
        torch.testing.assert_close(channel, torch.full((64, 64), value))


def test_a_wide_picture_is_squashed_and_not_cropped(vision_config):
    image = Image.new("RGB", (400, 100), "black")
    image.paste("red", (0, 0, 40, 100))
    image.paste("blue", (360, 0, 400, 100))
    pixels = preprocess(image, plain(vision_config))
    assert pixels[0, :, :4].min() > 0.95 and pixels[2, :, -4:].min() > 0.95  # both ends are there
    assert pixels[:, :, 20:44].max() < 0.05


def test_resizing_is_bicubic(vision_config, random):
    colours = torch.randint(256, (30, 50, 3), generator=random, dtype=torch.uint8).numpy()
    image = Image.fromarray(colours)
    found = preprocess(image, plain(vision_config)).permute(1, 2, 0).numpy() * 255

    def resized(how):
        return numpy.asarray(image.resize((64, 64), how), dtype=numpy.float32)

    numpy.testing.assert_allclose(found, resized(Image.Resampling.BICUBIC), atol=1e-3)
    assert numpy.abs(found - resized(Image.Resampling.BILINEAR)).max() > 5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (97, 13)])
def test_any_mode_and_size_will_do(vision_config, mode, size):
    pixels = preprocess(Image.new(mode, size), vision_config)
    assert pixels.shape == (3, 64, 64) and pixels.isfinite().all() and pixels.is_contiguous()


def test_pooling_averages_squares_of_neighbours_and_keeps_cls():
    grid = torch.tensor([[0.0, 1, 10, 11], [2, 3, 12, 13], [20, 21, 30, 31], [22, 23, 32, 33]])
    tokens = torch.cat([torch.tensor([99.0]), grid.flatten()]).reshape(1, 17, 1)
    assert pool_patches(tokens, 2).flatten().tolist() == [99, 1.5, 11.5, 21.5, 31.5]
    assert pool_patches(tokens, 1) is tokens
    assert pool_patches(tokens, 4).flatten().tolist() == [99, 16.5]


def test_pooling_keeps_channels_and_pictures_apart(random):
    tokens = torch.randn(2, 17, 3, generator=random)
    pooled = pool_patches(tokens, 2)
    assert pooled.shape == (2, 5, 3)
    torch.testing.assert_close(pooled[1, 1], tokens[1, [1, 2, 5, 6]].mean(0))


@pytest.mark.parametrize(("pool", "count"), [(1, 17), (2, 5), (4, 2)])
def test_there_are_as_many_tokens_as_the_configuration_says(vision_config, random, pool, count):
    config = replace(vision_config, pool=pool)
    tokens = Vision(config=config)(torch.randn(2, 3, 64, 64, generator=random))
    assert tokens.shape == (2, count, config.width) and config.tokens == count


def test_blocks_and_final_norm_go_as_the_configuration_says(vision_config, random):
    whole = Vision(config=replace(vision_config, depth=None))
    bare = Vision(config=replace(vision_config, depth=2, final_norm=False))
    assert len(whole.encoder.blocks) > len(bare.encoder.blocks) == 2
    pixels = torch.randn(1, 3, 64, 64, generator=random)
    inner = bare.encoder
    expected = inner.blocks(inner.norm_pre(inner._pos_embed(inner.patch_embed(pixels))))
    torch.testing.assert_close(bare(pixels), pool_patches(expected, 2))


def test_stored_weights_come_back(vision_config, random, tmp_path):
    vision = Vision(config=vision_config)
    save_file(vision.encoder.state_dict(), tmp_path / "vit.safetensors")
    pixels = torch.randn(1, 3, 64, 64, generator=random)
    again = Vision.load(vision_config, tmp_path / "vit.safetensors", attention="sdpa")
    assert torch.equal(again(pixels), vision(pixels))


def test_a_missing_weight_is_not_passed_over(vision_config, tmp_path):
    state = Vision(config=vision_config).encoder.state_dict()
    del state["cls_token"]
    save_file(state, tmp_path / "vit.safetensors")
    with pytest.raises(RuntimeError, match="cls_token"):
        Vision.load(vision_config, tmp_path / "vit.safetensors", attention="sdpa")


def test_both_attentions_compute_the_same(vision_config, random):
    fused, plain_products = (Vision(config=vision_config, attention=kind) for kind in ("sdpa", "eager"))
    plain_products.load_state_dict(fused.state_dict())
    assert fused.encoder.blocks[0].attn.fused_attn and not plain_products.encoder.blocks[0].attn.fused_attn
    pixels = torch.randn(1, 3, 64, 64, generator=random)
    torch.testing.assert_close(plain_products(pixels), fused(pixels))
