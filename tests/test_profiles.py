"""The numbers of every profile: they must fit together before hours are spent on them."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from mglib import profiles
from mglib.config import QFormerConfig, VisionConfig
from mglib.model.prompts import CAPTION, LLAMA2, VICUNA
from mglib.model.vision import Vision

ALL = pytest.mark.parametrize("profile", profiles.PROFILES.values(), ids=lambda profile: profile.name)


def trainings(profile):
    stages = {"stage1": profile.stage1}
    if profile.pretrain is not None:
        stages["caption_lm"] = profile.pretrain.caption_lm.train
        stages["representation"] = profile.pretrain.representation
        stages["generative"] = profile.pretrain.generative
    if profile.ablation is not None:
        stages["ablation"] = profile.ablation.train
    if profile.lora is not None:
        stages["lora"] = profile.lora.train
    if profile.spatial is not None:
        stages["spatial"] = profile.spatial
    return stages


def test_an_unknown_profile_is_met_by_the_known_ones():
    with pytest.raises(ValueError, match=r"Unknown profile 'maxi': choose one of .*mini"):
        profiles.profile("maxi")


def test_profiles_are_found_by_their_own_names():
    assert all(profiles.profile(name).name == name for name in profiles.PROFILES)


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


@pytest.mark.parametrize("name", ["mini", "smoke"])
def test_a_small_profile_is_always_whole(name):
    with pytest.raises(ValueError, match=rf"{name} fits any card whole: leave BITS out.* vicuna-7b"):
        profiles.profile(name, bits=4)


def test_other_bits_are_met_by_those_that_there_are():
    with pytest.raises(ValueError, match="8 or 4 bits, not in 3: BITS=8 or BITS=4"):
        profiles.profile("llama2-7b", bits=3)


def test_a_profile_cannot_be_changed_by_accident():
    with pytest.raises(FrozenInstanceError):
        profiles.MINI.vision.width = 1


@ALL
def test_the_q_former_has_the_releases_queries_and_its_heads_divide_the_width(profile):
    if not isinstance(profile.qformer, QFormerConfig):
        pytest.skip("has no Q-Former")
    assert profile.qformer.queries == (32 if profile.pretrain is None else 16)
    assert profile.qformer.width % profile.qformer.heads == 0
    assert profile.qformer.layers >= profile.qformer.cross_attention_frequency


@ALL
def test_the_text_branch_is_there_exactly_where_it_is_pretrained(profile):
    if profile.pretrain is None:
        assert getattr(profile.qformer, "vocabulary", 0) == 0
    else:
        lm = profile.pretrain.caption_lm
        assert profile.qformer.vocabulary == lm.vocabulary
        assert lm.width % lm.heads == 0 and lm.width // lm.heads % 2 == 0  # rotary halves


@ALL
def test_schedules_warm_up_then_fall(profile):
    for name, config in trainings(profile).items():
        assert 0 <= config.warmup_steps < config.steps, name
        assert 0 < config.warmup_lr <= config.lr and 0 < config.min_lr <= config.lr, name


@ALL
def test_what_is_kept_are_shares_of_the_run(profile):
    for name, config in trainings(profile).items():
        assert all(0 < share <= 1 for share in config.keep), name
        assert list(config.keep) == sorted(set(config.keep)), name
        assert config.save_every >= 1, name


@ALL
def test_a_training_fits_its_data_and_its_answers(profile):
    for name, config in trainings(profile).items():
        assert config.batch_size >= 2 and config.max_answer >= 8, name
        assert profile.world is None or config.batch_size <= profile.world.train, name
    if profile.pretrain is not None:  # matching needs another pair as a negative
        assert profile.pretrain.max_text >= 8


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
def test_the_prompt_template_is_a_known_one(profile):
    assert profile.language.template in (CAPTION.name, VICUNA.name, LLAMA2.name, "chat")


@ALL
def test_the_world_has_room_for_every_measure(profile):
    world, evaluation = profile.world, profile.evaluation
    if world is not None:
        splits = (world.val, world.test_seen, world.test_new_pairs, world.test_new_objects)
        assert min(splits) >= max(evaluation.shown, 5)  # recall at 5
        noise = world.noise
        assert 0 < noise.clipped + noise.shouting + noise.mismatched + noise.long < 1
        assert 0 < world.new_pair_share < 1


@ALL
def test_pretrained_parts_are_named_where_nothing_is_pretrained_here(profile):
    assert (profile.release is None) == (profile.pretrain is not None) == (profile.world is not None)


def test_the_defaults_are_the_papers():
    assert QFormerConfig() == QFormerConfig(
        width=768, layers=12, heads=12, queries=32, cross_attention_frequency=2, vocabulary=0
    )
    paper = VisionConfig(timm_name="eva_giant_patch14_clip_224", width=1408, depth=39, final_norm=False)
    assert paper.tokens == 257 and paper.image_size == 224
    config = profiles.MINI.stage1
    assert (config.weight_decay, config.betas, config.warmup_lr) == (0.05, (0.9, 0.999), 1e-6)


@ALL
def test_any_profile_can_have_another_language_model(profile):
    other = profiles.profile(profile.name, language="/models/Qwen2-0.5B")
    assert (other.name, other.language.place) == (f"{profile.name}-Qwen2-0.5B", "/models/Qwen2-0.5B")
    assert other.language.template == "chat" and other.stage1 == profile.stage1
    assert other.release is None or other.release.projection is None
