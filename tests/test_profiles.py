"""The numbers of every profile: they must fit together before hours are spent on them."""

from dataclasses import replace

import pytest
import torch

from mglib import profiles
from mglib.config import QFormerConfig, TrainConfig
from mglib.model.vision import Vision

ALL = pytest.mark.parametrize("profile", profiles.PROFILES.values(), ids=lambda profile: profile.name)


def trainings(config):
    """Yield every training below a config."""
    if isinstance(config, TrainConfig):
        yield config
    elif hasattr(config, "__dataclass_fields__"):
        for value in vars(config).values():
            yield from trainings(value)


def test_an_unknown_profile_is_met_by_the_known_ones():
    assert all(profiles.profile(name).name == name for name in profiles.PROFILES)
    with pytest.raises(ValueError, match=r"Unknown profile 'maxi': choose one of .*mini"):
        profiles.profile("maxi")


@pytest.mark.parametrize("bits", [4, 8])
def test_a_profile_made_from_a_release_can_hold_its_language_model_in_fewer_bits(bits):
    few, whole = profiles.profile("vicuna-7b", bits=bits), profiles.profile("vicuna-7b")
    assert few == replace(
        whole, name=f"vicuna-7b-{bits}bit", release=replace(whole.release, quantised=f"{bits}bit")
    )  # and with it the authors' projection
    other = profiles.profile("vicuna-7b", bits=bits, language="/models/of@home/Qwen2-0.5B")
    assert (other.name, other.release.quantised) == (f"vicuna-7b-{bits}bit-Qwen2-0.5B", f"{bits}bit")
    assert (other.language.place, other.release.projection) == ("/models/of@home/Qwen2-0.5B", None)
    assert profiles.profile("vicuna-7b").release.quantised is None


@pytest.mark.parametrize(
    ("name", "bits", "sentence"),
    [
        ("mini", 4, "mini fits any card whole: leave BITS out.* vicuna-7b"),
        ("smoke", 8, "smoke fits any card whole"),
        ("llama2-7b", 3, "8 or 4 bits, not in 3: BITS=8 or BITS=4"),
    ],
)
def test_bits_that_cannot_be_are_met_by_those_that_can(name, bits, sentence):
    with pytest.raises(ValueError, match=sentence):
        profiles.profile(name, bits=bits)


@ALL
def test_any_profile_can_have_another_language_model(profile):
    other = profiles.profile(profile.name, language="/models/Qwen2-0.5B")
    assert (other.name, other.language.place) == (f"{profile.name}-Qwen2-0.5B", "/models/Qwen2-0.5B")
    assert other.language.template == "chat" and other.stage1 == profile.stage1
    assert other.release is None or other.release.projection is None


@ALL
def test_the_q_former_has_the_releases_queries_and_its_heads_divide_the_width(profile):
    if not isinstance(profile.qformer, QFormerConfig):
        pytest.skip("has no Q-Former")
    assert profile.qformer.queries == (32 if profile.pretrain is None else 16)
    assert profile.qformer.width % profile.qformer.heads == 0
    assert profile.qformer.layers >= profile.qformer.cross_attention_frequency


@ALL
def test_the_text_branch_is_there_exactly_where_it_is_pretrained(profile):
    assert (profile.release is None) == (profile.pretrain is not None) == (profile.world is not None)
    if profile.pretrain is None:
        assert getattr(profile.qformer, "vocabulary", 0) == 0
    else:
        lm = profile.pretrain.caption_lm
        assert profile.qformer.vocabulary == lm.vocabulary
        assert lm.width % lm.heads == 0 and lm.width // lm.heads % 2 == 0  # rotary halves


@ALL
def test_trainings_warm_up_then_fall_and_fit_their_data(profile):
    found = list(trainings(profile))
    assert len(found) == (8 if profile.release is None else 2)
    for config in found:
        assert 0 <= config.warmup_steps < config.steps
        assert 0 < config.warmup_lr <= config.lr and 0 < config.min_lr <= config.lr
        assert all(0 < share <= 1 for share in config.keep) and list(config.keep) == sorted(set(config.keep))
        assert config.batch_size >= 2 and config.max_answer >= 8 and config.save_every >= 1
        assert profile.world is None or config.batch_size <= profile.world.train


@ALL
def test_the_encoder_has_the_declared_width_patches_and_tokens(profile):
    with torch.device("meta"):
        vision = Vision(config=profile.vision)
        config = profile.vision
        tokens = vision(torch.empty(1, 3, config.image_size, config.image_size))
    assert vision.encoder.patch_embed.patch_size == (config.patch_size, config.patch_size)
    assert tokens.shape == (1, config.tokens, config.width)
    assert config.image_size % config.patch_size == 0
    assert config.image_size // config.patch_size % config.pool == 0


@ALL
def test_the_world_has_room_for_every_measure(profile):
    world = profile.world
    if world is not None:
        splits = (world.val, world.test_seen, world.test_new_pairs, world.test_new_objects)
        assert min(splits) >= max(profile.evaluation.shown, 5)  # recall at 5
        noise = world.noise
        assert 0 < noise.clipped + noise.shouting + noise.mismatched + noise.long < 1
        assert 0 < world.new_pair_share < 1
