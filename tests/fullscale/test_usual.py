"""The peer: transformers' BLIP-2 in our shapes."""

from dataclasses import replace

import pytest
import torch
from tiny_release import CONCAT, tiny_profile

from mglib.fullscale import usual
from mglib.fullscale.random_model import layouts, random_model, sample_batch
from mglib.profiles import MINI

CPU = torch.device("cpu")


@pytest.fixture
def tiny():
    return tiny_profile(400)


@pytest.mark.parametrize("qformer", ["as the profile's", "of the release"])
def test_its_shapes_are_the_profiles(tiny, qformer):
    profile = tiny if qformer == "as the profile's" else replace(tiny, qformer=CONCAT)
    ours = random_model(profile, CPU, torch.float32)
    theirs = usual.beside_ours(profile, ours, torch.bfloat16)
    assert theirs.language_model is ours.language.model and theirs.vision_model.dtype == torch.bfloat16
    vision, encoder = theirs.config.vision_config, ours.vision.encoder
    assert (vision.num_hidden_layers, vision.num_attention_heads) == (3, 4)
    assert vision.intermediate_size == encoder.blocks[0].mlp.fc1.out_features != 4 * vision.hidden_size
    # Where ours has no Q-Former, theirs is BLIP-2's: a projection of another shape, which starts at random.
    wanted = (3, 32) if profile is tiny else (32, 768)
    assert (theirs.config.num_query_tokens, theirs.language_projection.in_features) == wanted
    assert [name for name, p in theirs.named_parameters() if p.requires_grad] == [
        "language_projection.weight",
        "language_projection.bias",
    ]


def test_it_has_our_loss_at_equal_weights(model):
    ours = model()
    size = ours.qformer.config
    profile = replace(
        MINI,
        vision=replace(MINI.vision, timm_name="test_vit", width=64, patch_size=16, image_size=64),
        qformer=replace(MINI.qformer, width=size.width, heads=1, queries=size.queries),
    )
    theirs = usual.beside_ours(profile, ours, torch.float32)
    layout, pixels = layouts(profile)["stage 1"], torch.randn(4, 3, 64, 64)
    batch = sample_batch(profile, layout, 4, CPU)
    # The tests' language model knows fewer tokens than the bench's tokenizer.
    batch |= {
        "ids": batch["ids"] % 290,
        "labels": batch["labels"].where(batch["labels"] < 0, batch["ids"] % 290),
    }
    batch["queries"] = theirs.get_image_features(pixels).qformer_outputs.last_hidden_state.detach()
    output = ours(batch)
    loss = usual.usual_step(theirs, batch, pixels)
    assert loss.item() == pytest.approx(output["loss"].item() / output["count"].item(), rel=1e-5)
    learns = {name for name, weight in theirs.named_parameters() if weight.grad is not None}
    assert learns == {"language_projection.weight", "language_projection.bias"}
