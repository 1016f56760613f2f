"""A tiny study that trains for real, in a folder of its own."""

from dataclasses import replace
from pathlib import Path

import torch

from mglib.chat import chat_model, finetune
from mglib.config import (
    AblationConfig,
    LanguageConfig,
    LoRAConfig,
    Profile,
    QFormerConfig,
    TrainConfig,
)
from mglib.data import released
from mglib.model import device
from mglib.study import stage1
from mglib.study import study as studies
from mglib.study.study import Study
from mglib.training.feature_cache import cached

SHORT = TrainConfig(
    steps=6, batch_size=4, lr=1e-2, min_lr=1e-3, warmup_steps=2, weight_decay=0.0, max_answer=12, save_every=2
)
QFORMER = QFormerConfig(width=32, layers=2, heads=4, queries=3)


def tiny_study(folder, monkeypatch, vision_config, *, train: TrainConfig = SHORT, **changes) -> Study:
    """Return a study of tiny parts that keeps its trainings (stage 1 and LoRA by `train`) in `folder`.

    `changes` are made to its profile.
    """
    monkeypatch.setattr(studies, "CACHE", folder)
    state = folder / "vision.safetensors"
    state.write_bytes(b"weights")
    profile = Profile(
        name="tiny",
        vision=vision_config,
        qformer=QFORMER,
        language=LanguageConfig(name="tiny", width=48, template="vicuna"),
        stage1=train,
        stage2=SHORT,
        ablation=AblationConfig(rates=(1e-3, 1e-2), rate_steps=3),
        lora=LoRAConfig(rank=2, train=train),
    )
    study = Study.of(replace(profile, **changes), seed=0, weights="wheel")
    # Set here what is otherwise measured or loaded.
    study.__dict__.update(device=torch.device("cpu"), dtype=torch.float32, vision_state=state)
    return study


def in_folder(monkeypatch, folder: Path) -> None:
    """Let published files come from a folder's `downloads` and trainings go to its `cache`, on the CPU."""
    for module in (studies, stage1):
        monkeypatch.setattr(module, "DOWNLOADS", folder / "downloads")
    for module in (studies, stage1, finetune, released, chat_model):
        monkeypatch.setattr(module, "CACHE", folder / "cache")
    monkeypatch.setattr(device, "frozen_dtype", lambda _: torch.float32)
    monkeypatch.setattr(device, "pick", lambda: torch.device("cpu"))


def another(study: Study, **changes) -> Study:
    """Return a tiny study with other fields, on the same device and with the same encoder."""
    other = replace(study, **changes)
    other.__dict__.update({name: study.__dict__[name] for name in ("device", "dtype", "vision_state")})
    return other


def kept(folder, rows):
    """Store rows as the feature cache does."""
    return cached(folder, lambda: iter(rows), len(rows), torch.stack, what="rows")
