"""A model on disk is loaded only with its own language model and template."""

import shutil
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace

import pytest
import torch
from tiny_chat import LINES
from torch import nn

from mglib.chat.chat_model import chat_model_of, hashed, keep, load, trained_folder
from mglib.chat.conversation import Conversation
from mglib.config import Asked, EvalConfig
from mglib.model.decoding import greedy
from mglib.model.dialogue import VICUNA_CHAT
from mglib.model.minigpt4 import MiniGPT4, assemble
from mglib.model.vision import Vision
from mglib.profiles import PROFILES
from mglib.settings import Settings
from mglib.study.study import Study
from mglib.weights.saved import save_pretrained


@pytest.fixture
def study(model, vision_config, tmp_path, monkeypatch):
    """Return a tiny study with its own parts, which `Study.open` returns for any settings."""
    monkeypatch.setattr("mglib.chat.chat_model.CACHE", tmp_path / "cache")
    tiny = model()
    profile = replace(PROFILES["mini"], vision=vision_config)
    profile = replace(profile, language=replace(profile.language, name="Tiny"))
    monkeypatch.setattr("mglib.chat.chat_model.turns_of", lambda *_: LINES)
    eye = Vision(config=vision_config)
    made = SimpleNamespace(
        profile=profile,
        seed=2,
        weights="hub",
        chosen_language=None,
        vision=lambda: eye,
        frozen_qformer=lambda: tiny.qformer,
        language=lambda: tiny.language,
    )
    monkeypatch.setattr(Study, "open", lambda settings: made)
    made.model = assemble(vision=eye, qformer=tiny.qformer, language=tiny.language)
    return made


def test_a_kept_model_is_loaded_with_the_seed_and_weights_of_its_run(study, monkeypatch):
    opened, found = [], study
    folder = keep(study, study.model)
    monkeypatch.setattr(Study, "open", lambda settings: opened.append(settings) or found)
    loaded = load(Settings())
    assert opened == [Settings(), Settings(seed=2, weights="hub")]
    assert torch.equal(loaded.model.projection.weight, study.model.projection.weight)
    assert loaded.trained == hashed(folder / "projection.safetensors")
    assert loaded.origin == {"profile": "mini", "seed": 2, "weights": "hub"}
    assert not any(weight.requires_grad for weight in loaded.model.parameters())


def test_the_published_model_is_loaded_where_none_was_trained(study, tmp_path, monkeypatch):
    kept, published = keep(study, study.model), tmp_path / "published" / "mini" / "model"
    monkeypatch.setattr("mglib.chat.chat_model.RESULTS", published.parent.parent)
    shutil.copytree(kept, published)
    assert trained_folder(study) == kept
    shutil.rmtree(kept)
    assert load(Settings()).trained == hashed(published / "projection.safetensors")
    shutil.rmtree(published)
    assert trained_folder(study) is None


def test_the_weights_of_another_run_are_refused(study, model, vision_config):
    keep(study, study.model)
    torch.manual_seed(1)
    others = {"vision": Vision(config=vision_config), "frozen_qformer": model(seed=1).qformer}
    for part, other in others.items():
        mine = getattr(study, part)
        setattr(study, part, lambda other=other: other)
        with pytest.raises(ValueError, match=r"was trained with another .*: it would give noise here"):
            load(Settings())
        setattr(study, part, mine)
    study.profile = replace(study.profile, language=replace(study.profile.language, name="Vicuna"))
    with pytest.raises(ValueError, match="Tiny"):
        load(Settings())


def test_a_folder_that_does_not_say_which_run_it_is_of_is_refused(study, tmp_path):
    save_pretrained(study.model, tmp_path, language="Tiny", template=LINES.first)
    with pytest.raises(ValueError, match=r"does not say which run .*: export or fine-tune it again"):
        load(Settings(), tmp_path)


def test_files_are_told_from_the_repository_with_the_beginning_of_their_hash(tmp_path, monkeypatch):
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).write_bytes(name.encode())
    monkeypatch.setattr("mglib.paths.ROOT", tmp_path)
    told = [f"{name} (SHA-256 {sha256(name.encode()).hexdigest()[:12]})" for name in ("a.pth", "b.pth")]
    assert hashed(tmp_path / "a.pth", tmp_path / "b.pth") == " and ".join(told)


def test_an_official_projection_goes_with_a_published_profile_alone(tmp_path):
    with pytest.raises(ValueError, match=r"make chat PROFILE=vicuna-7b PROJECTION=file\.pth"):
        load(Settings(), tmp_path / "a.pth")


@pytest.mark.parametrize(("template", "turns"), [("vicuna", VICUNA_CHAT), ("chat", None)])
def test_a_study_is_talked_to_in_its_profiles_template(
    model, vision_config, monkeypatch, tmp_path, template, turns
):
    tiny = model()
    monkeypatch.setattr(
        tiny.language.tokenizer,
        "chat_template",
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>",
    )
    profile = SimpleNamespace(
        name="tiny",
        language=SimpleNamespace(name="Tiny", template=template, place=None),
        vision=vision_config,
        evaluation=EvalConfig(abilities=(("minigpt4", Asked(decoding="penalised")),)),
    )
    study = SimpleNamespace(profile=profile, seed=3, weights="hub", chosen_language=None)
    made = chat_model_of(study, tiny)
    assert made.origin["seed"] == 3 and made.origin["weights"] == "hub"
    assert not made.decoding.sample and made.decoding.repetition_penalty == 1.1
    assert made.language == "Tiny" and made.vision is vision_config and made.turns.first.name == template
    if turns:
        assert made.turns == turns
    else:
        assert made.turns.first.turn == "<user>{}<assistant>"
        assert made.turns.following == "<user>{}<assistant>"


@pytest.mark.slow
@pytest.mark.weights
def test_the_real_language_model_is_loaded_and_talks_as_transformers_lets_it(tmp_path, monkeypatch):
    study = Study.open(Settings(profile="smoke"))
    language = study.language()
    parts = {"qformer": study.frozen_qformer(), "projection": nn.Linear(384, language.width)}
    monkeypatch.setattr("mglib.chat.chat_model.CACHE", tmp_path)
    folder = keep(study, MiniGPT4(vision=study.vision(), language=language, **parts))
    loaded, file = load(Settings(profile="smoke")), folder / "projection.safetensors"
    assert f"profile smoke, {hashed(file)} with smollm2-135m, on " in loaded.weights()
    assert torch.equal(loaded.model.projection.weight.cpu(), parts["projection"].weight)
    talk, tokenizer, messages = Conversation(loaded), language.tokenizer, []
    for question in ("Name a large animal in one sentence.", "And a small one?"):
        messages.append({"role": "user", "content": question})
        asked = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(study.device)
        ids = language.model.generate(**asked, do_sample=False, max_new_tokens=8)
        expected = tokenizer.decode(ids[0, asked["input_ids"].shape[1] :], skip_special_tokens=True).strip()
        assert "".join(talk.ask(question, greedy(8))) == expected != ""
        messages.append({"role": "assistant", "content": talk.history[-1].answer})
