"""A trained model is exported in three formats, each read back by its own reader."""

from dataclasses import replace

import pytest
import torch
from tiny_chat import LINES
from torch import nn

from mglib.__main__ import main
from mglib.chat import chat_model as chat_models
from mglib.chat.chat_model import ChatModel
from mglib.chat.export import FORMATS, export
from mglib.config import LoRAConfig, TrainConfig
from mglib.model.vision import Vision
from mglib.weights.lora import with_lora
from mglib.weights.official import load_projection


@pytest.fixture
def chat_model(model, vision_config):
    tiny = model()
    tiny.vision = Vision(config=vision_config)
    return ChatModel(model=tiny, turns=LINES, vision=vision_config, language="Tiny")


def test_the_official_file_holds_the_projection_and_is_not_written_over(chat_model, tmp_path):
    file = export(chat_model, "pth", tmp_path)
    other = nn.Linear(chat_model.model.projection.in_features, chat_model.model.projection.out_features)
    load_projection(other, file)
    assert torch.equal(other.weight, chat_model.model.projection.weight)
    with pytest.raises(FileExistsError, match="another OUT"):
        export(chat_model, "pth", tmp_path)


@pytest.mark.parametrize("to", ["mglib", "transformers"])
def test_a_folder_that_is_there_is_not_written_over(chat_model, tmp_path, to):
    (tmp_path / "lora.safetensors").write_bytes(b"of another model")
    with pytest.raises(FileExistsError, match="another OUT"):
        export(chat_model, to, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["lora.safetensors"]


@pytest.mark.parametrize("to", FORMATS)
def test_low_rank_updates_are_not_left_behind(chat_model, tmp_path, to):
    config = LoRAConfig(
        rank=2, train=TrainConfig(steps=1, batch_size=1, lr=1e-3, min_lr=1e-4, warmup_steps=0)
    )
    tuned = replace(chat_model, model=with_lora(chat_model.model, config, seed=0))
    with pytest.raises(ValueError, match="low-rank updates"):
        export(tuned, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_given_projection_is_what_is_exported(chat_model, tmp_path, monkeypatch, capsys):
    given = tmp_path / "tuned"
    monkeypatch.setattr(chat_models, "load", lambda settings, projection: {given: chat_model}[projection])
    assert main(["export", "--to", "pth", "--projection", str(given), "--out", str(tmp_path / "out")]) == 0
    assert "checkpoint.pth" in capsys.readouterr().out and (tmp_path / "out/checkpoint.pth").exists()


def test_what_transformers_cannot_hold_is_told(chat_model, tmp_path):
    with pytest.raises(ValueError, match="transformers' BLIP-2 has an EVA ViT"):
        export(chat_model, "transformers", tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_a_format_that_cannot_hold_a_q_former_is_answered_before_anything_is_loaded(monkeypatch, capsys):
    monkeypatch.setattr(chat_models, "load", lambda *_: pytest.fail("the model was loaded"))
    assert main(["export", "--profile", "vicuna-7b", "--to", "gguf-mmproj"]) == 1
    shown = capsys.readouterr()
    assert "Q-Former" in shown.err and "TO=transformers" in shown.err and not shown.out
