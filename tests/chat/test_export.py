"""What was trained leaves in three formats, each read back by its own reader."""

import pytest
import torch
from torch import nn

from mglib.__main__ import main
from mglib.chat import speaker as speakers
from mglib.chat.export import export
from mglib.chat.speaker import Speaker
from mglib.model.dialogue import Turns
from mglib.model.prompts import Template
from mglib.model.vision import Vision
from mglib.weights.official import load_projection
from mglib.weights.saved import from_pretrained

FIRST = Template(name="lines", bos=True, turn="q {} a ", end="zz")


@pytest.fixture
def speaker(model, vision_config):
    tiny = model()
    tiny.vision = Vision(config=vision_config)
    return Speaker(model=tiny, turns=Turns(first=FIRST, following="zz q {} a "), vision=vision_config)


def test_the_official_file_holds_the_projection_and_is_not_written_over(speaker, tmp_path):
    file = export(speaker, "pth", tmp_path, language="Tiny")
    other = nn.Linear(speaker.model.projection.in_features, speaker.model.projection.out_features)
    load_projection(other, file, trained_with="Tiny", language="Tiny")
    assert torch.equal(other.weight, speaker.model.projection.weight)
    with pytest.raises(FileExistsError, match="another OUT"):
        export(speaker, "pth", tmp_path, language="Tiny")


def test_our_own_folder_is_bound_to_its_frozen_parts(speaker, tmp_path):
    folder, model = export(speaker, "mglib", tmp_path / "own", language="Tiny"), speaker.model
    parts = {"vision": model.vision, "qformer": model.qformer, "language": model.language}
    again = from_pretrained(folder, **parts, name="Tiny", template=FIRST)
    assert torch.equal(again.projection.weight, model.projection.weight)


def test_what_transformers_cannot_hold_is_told(speaker, tmp_path):
    with pytest.raises(ValueError, match="transformers' BLIP-2 has an EVA ViT"):
        export(speaker, "transformers", tmp_path / "hf", language="Tiny")
    assert not (tmp_path / "hf").exists()


def test_a_format_that_cannot_hold_a_q_former_is_answered_before_anything_is_loaded(monkeypatch, capsys):
    monkeypatch.setattr(speakers, "load", lambda *_: pytest.fail("the model was loaded"))
    assert main(["export", "--profile", "vicuna-7b", "--to", "gguf-mmproj"]) == 1
    shown = capsys.readouterr()
    assert "Q-Former" in shown.err and "TO=transformers" in shown.err and not shown.out
