"""A study with another language model: its parts, and that its trainings are never mistaken for another's."""

import pytest
import torch

from mglib.chat import chat_model
from mglib.chat.chat_model import load
from mglib.settings import Settings
from mglib.study.study import Study


def study(folder):
    found = Study.open(Settings(language=str(folder)))
    found.__dict__.update(device=torch.device("cpu"), dtype=torch.float32)
    return found


def write(folder, model, tokenizer, seed):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}answer: "
    )
    model(seed=seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tokenizer.chat_template = None
    return folder


def test_the_language_model_is_the_named_one(tmp_path, llama, tokenizer):
    one, other = (write(tmp_path / f"{seed}" / "own", llama, tokenizer, seed) for seed in (0, 1))
    language = study(one).language()
    assert language.width == 48 and language.tokenizer.chat_template
    assert torch.equal(language.model.get_input_embeddings().weight, llama().get_input_embeddings().weight)
    # the same settings, other weights: other trainings
    assert study(one).folder("stage1") != study(other).folder("stage1")
    assert Settings(language=str(one)).folder_name == study(one).profile.name == "mini-own"


def test_it_is_known_by_its_content_wherever_it_is(tmp_path, monkeypatch, llama, tokenizer, model):
    one, other = (write(tmp_path / f"{seed}" / "own", llama, tokenizer, seed) for seed in (0, 1))
    monkeypatch.chdir(tmp_path)

    def talked_to(folder):
        opened, tiny = study(folder), model()
        tiny.language = opened.language()
        return chat_model.chat_model_of(opened, tiny).name, chat_model.kept_folder(opened)

    name, folder = talked_to(one)
    assert folder.name.startswith("mini-")
    assert all(mine != another for mine, another in zip((name, folder), talked_to(other), strict=True))
    one.rename(tmp_path / "moved")
    for spelt in ("moved", "./moved/", str(tmp_path / "moved")):
        assert talked_to(spelt) == (name, folder)


def test_a_published_projection_is_not_put_before_another_language_model(tmp_path, llama, tokenizer):
    place = write(tmp_path / "own", llama, tokenizer, 0)
    with pytest.raises(ValueError, match="belongs to its own language model"):
        load(Settings(profile="vicuna-7b", language=str(place)), tmp_path / "pretrained.pth")


def test_what_was_not_trained_is_named_with_its_command():
    with pytest.raises(FileNotFoundError, match=r"`make reproduce PROFILE=vicuna-7b BITS=4`.*PROJECTION="):
        load(Settings(profile="vicuna-7b", bits=4))
