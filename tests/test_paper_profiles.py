"""The paper's profiles against its tables and the official configuration, written out here by hand."""

import pytest

from mglib.config import QFormerConfig
from mglib.model import prompts
from mglib.paper_profiles import (
    LLAMA2_7B,
    STAGE2_AS_PUBLISHED,
    STAGE2_AS_WRITTEN,
    VICUNA_7B,
    VICUNA_13B,
)
from mglib.training.loop import share

PROFILES = (VICUNA_7B, VICUNA_13B, LLAMA2_7B)
every = pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)


@every
def test_the_encoder_is_eva_vit_g_cut_before_its_last_block(profile):
    vision = profile.vision
    assert vision.timm_name == "eva_giant_patch14_clip_224"
    assert (vision.image_size, vision.patch_size, vision.width, vision.depth) == (224, 14, 1408, 39)
    assert (vision.final_norm, vision.pool, vision.tokens) == (False, 1, 257)
    assert vision.mean == (0.48145466, 0.4578275, 0.40821073)
    assert vision.std == (0.26862954, 0.26130258, 0.27577711)


def test_the_q_former_has_berts_shape_and_the_llama_2_variant_joins_four_tokens():
    bert = QFormerConfig(
        width=768, layers=12, heads=12, queries=32, cross_attention_frequency=2, vocabulary=0
    )
    assert VICUNA_7B.qformer == VICUNA_13B.qformer == QFormerConfig() == bert
    assert (LLAMA2_7B.qformer.neighbours, LLAMA2_7B.qformer.queries, LLAMA2_7B.qformer.width) == (4, 64, 5632)


@pytest.mark.parametrize(
    ("profile", "width", "vocabulary", "trained"),
    [
        (VICUNA_7B, 4096, 32001, 3_149_824),
        (VICUNA_13B, 5120, 32001, 3_937_280),
        (LLAMA2_7B, 4096, 32000, 5632 * 4096 + 4096),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_the_language_model_is_as_wide_as_the_projection(profile, width, vocabulary, trained):
    assert profile.language.width == profile.release.llama.hidden_size == width
    assert profile.release.llama.vocab_size == vocabulary
    assert profile.qformer.width * width + width == trained


@every
def test_stage_1_is_the_official_one(profile):
    stage = profile.stage1
    assert (stage.lr, stage.min_lr, stage.warmup_lr) == (1e-4, 8e-5, 1e-6)
    assert (stage.weight_decay, stage.betas, stage.clip, stage.muon) == (0.05, (0.9, 0.999), None, False)
    assert (stage.steps, stage.warmup_steps) == (4 * 5_000, 5_000)
    assert (stage.batch_size, share(stage, 4)) == (256, 64)
    assert (stage.max_answer, stage.keep) == (32, (0.1, 0.3, 0.5, 1.0))
    assert stage.steps * stage.batch_size == 5_120_000  # the paper: about five million pairs
    assert [(source.name, source.shards, source.weight) for source in profile.release.web] == [
        ("laion", "laion/{00000..10488}.tar", 115),
        ("cc_sbu", "cc_sbu/{00000..01255}.tar", 14),
    ]


@pytest.mark.parametrize(("stage", "steps"), [(STAGE2_AS_WRITTEN, 400), (STAGE2_AS_PUBLISHED, 5 * 200)])
def test_stage_2_is_the_official_one_in_both_lengths(stage, steps):
    assert (stage.lr, stage.min_lr, stage.warmup_lr) == (3e-5, 1e-5, 1e-6)
    assert (stage.weight_decay, stage.betas, stage.clip) == (0.05, (0.9, 0.999), None)
    assert (stage.steps, stage.warmup_steps, stage.batch_size, stage.max_answer) == (steps, 200, 12, 160)


def test_prompts_and_end_symbols_are_the_official_ones():
    assert (prompts.CAPTION.turn, prompts.CAPTION.end) == ("{}", "\n")
    assert [profile.language.template for profile in PROFILES] == ["vicuna", "vicuna", "llama2"]
    assert (prompts.VICUNA.turn, prompts.VICUNA.end) == ("###Human: {} ###Assistant: ", "###")
    assert (prompts.LLAMA2.turn, prompts.LLAMA2.end) == ("[INST] {} [/INST] ", "</s>")
