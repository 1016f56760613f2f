"""A tiny study that makes its own BLIP-2, and the pictures that it learns from."""

from dataclasses import replace

import pytest
from PIL import Image
from tiny_parts import QFORMER, tiny_study
from tiny_texts import split_of

from mglib.config import EvalConfig, PreferenceConfig
from mglib.model.vision import Vision
from mglib.study import study


@pytest.fixture
def tiny(tmp_path, monkeypatch, vision_config, pretrain_config, train_config):
    """Return a study in float32 whose every training takes one step, with Muon as in mini."""
    step = train_config(steps=1, batch_size=4, warmup_steps=0, muon=True, max_answer=12)
    taught = replace(
        pretrain_config,
        caption_lm=replace(pretrain_config.caption_lm, train=step),
        representation=step,
        generative=step,
    )
    encoder = Vision(config=vision_config)
    monkeypatch.setattr(study.Study, "vision", lambda self: encoder)
    return tiny_study(
        tmp_path,
        monkeypatch,
        vision_config,
        train=step,
        qformer=replace(QFORMER, vocabulary=300),
        pretrain=taught,
        stage2=step,
        spatial=step,
        preference=PreferenceConfig(train=step, rates=(1e-3,)),
        evaluation=EvalConfig(batch_size=4),
    )


@pytest.fixture
def split(captions):
    pictures = [Image.new("RGB", (64, 64), (30 * number, 90, 200)) for number in range(len(captions))]
    references = tuple((caption, f"{caption} by the sea") for caption in captions)
    return split_of("train", captions, references=references, images=lambda: iter(pictures))
