"""A model kept on disk goes back to its own language model and template only."""

from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mglib.chat.chat_model import (
    ChatModel,
    chat_model_of,
    frozen,
    hashed,
    load,
    restore_chat_model,
    save_chat_model,
)
from mglib.chat.conversation import Conversation
from mglib.config import Asked, EvalConfig
from mglib.model.decoding import greedy
from mglib.model.dialogue import VICUNA_CHAT, Turns
from mglib.model.minigpt4 import MiniGPT4, assemble
from mglib.model.prompts import Template
from mglib.settings import Settings
from mglib.study.study import Study
from mglib.weights.saved import save_pretrained

LINES = Turns(first=Template(name="lines", bos=True, turn="q {} a ", end="zz"), following="zz\nq {} a ")


def test_a_projection_goes_back_to_its_own_model_only(model, vision_config, tmp_path):
    chat_model = ChatModel(model=model(), turns=LINES, vision=vision_config, language="Tiny")
    file = tmp_path / "mini.safetensors"
    save_chat_model(file, chat_model)
    other = ChatModel(model=model(seed=1), turns=LINES, vision=vision_config, language="Tiny")
    restore_chat_model(file, other)
    same = [torch.equal(a, b) for a, b in zip(
        [*chat_model.model.qformer.parameters(), *chat_model.model.projection.parameters()],
        [*other.model.qformer.parameters(), *other.model.projection.parameters()],
        strict=True,
    )]  # fmt: skip
    assert all(same)
    with pytest.raises(ValueError, match=r"language: 'Tiny', not 'Vicuna'.*nonsense"):
        restore_chat_model(file, replace(other, language="Vicuna"))
    wrong = ChatModel(model=other.model, turns=VICUNA_CHAT, vision=vision_config, language="Tiny")
    with pytest.raises(ValueError, match="template: 'lines', not 'vicuna'"):
        restore_chat_model(file, wrong)
    other.model.projection = nn.Linear(32, 40)
    with pytest.raises(ValueError, match=r"widths: \[32, 48\], not \[32, 40\]"):
        restore_chat_model(file, other)


def test_the_weights_of_another_run_are_refused(model, vision_config, tmp_path):
    run = {"profile": "mini", "seed": 0, "weights": "wheel", "vision": "12ab"}
    chat_model = ChatModel(model=model(), turns=LINES, vision=vision_config, origin=run)
    save_chat_model(tmp_path / "a.safetensors", chat_model)
    restore_chat_model(tmp_path / "a.safetensors", chat_model)
    for name, other in (("weights", "hub"), ("seed", 1), ("vision", "34cd")):
        with pytest.raises(ValueError, match=f"{name}: .*not {other!r}"):
            restore_chat_model(tmp_path / "a.safetensors", replace(chat_model, origin={**run, name: other}))


def test_a_kept_model_is_loaded_with_the_seed_and_weights_of_its_run(
    model, vision_config, tmp_path, monkeypatch
):
    opened, file = [], tmp_path / "smoke.safetensors"
    run = {"profile": "smoke", "seed": 2, "weights": "hub"}
    save_chat_model(file, ChatModel(model=model(), turns=LINES, vision=vision_config, origin=run))

    class Opened(Exception):
        pass

    def look(settings):
        opened.append(settings)
        if settings.seed:
            raise Opened

    monkeypatch.setattr("mglib.chat.chat_model.kept_file", lambda study: file)
    monkeypatch.setattr(Study, "open", look)
    with pytest.raises(Opened):
        load(Settings(profile="smoke"))
    assert opened[1:] == [Settings(profile="smoke", seed=2, weights="hub")]
    save_chat_model(file, ChatModel(model=model(), turns=LINES, vision=vision_config))
    with pytest.raises(
        ValueError, match=r"does not say which run.*make reproduce PROFILE=smoke NOTEBOOKS=04"
    ):
        load(Settings(profile="smoke"))


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
    (tmp_path / "vision").write_bytes(b"weights")
    study = SimpleNamespace(
        profile=profile, seed=3, weights="hub", place=None, vision_state=tmp_path / "vision"
    )
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
    study = Study.open(Settings())
    language = study.language()
    parts = {"qformer": study.qformer(), "projection": nn.Linear(384, language.width)}
    untrained = MiniGPT4(vision=nn.Identity(), language=language, **parts)
    file = tmp_path / "mini.safetensors"
    monkeypatch.setattr("mglib.chat.chat_model.kept_file", lambda study: file)
    save_chat_model(file, chat_model_of(study, untrained))
    loaded = load(Settings())
    assert f"profile mini, {hashed(file)} with SmolLM2-135M-Instruct, on " in loaded.weights()
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


@pytest.mark.slow
@pytest.mark.weights
def test_the_released_parts_are_joined_with_a_folder_of_ones_own(tmp_path):
    study = Study.open(Settings())
    parts = frozen(study)
    made = chat_model_of(study, assemble(**parts))
    name = study.profile.language.name
    save_pretrained(made.model, tmp_path, language=name, template=made.turns.first, run=made.origin)
    loaded = load(Settings(), tmp_path)
    assert torch.equal(loaded.model.projection.weight, made.model.projection.weight)
    assert loaded.trained == hashed(tmp_path / "projection.safetensors")
    assert loaded.origin == made.origin and not any(p.requires_grad for p in loaded.model.parameters())
