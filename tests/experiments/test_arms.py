"""The arms of a table: each at its own rate, what is tried for that, and the course of stage 1."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_parts import SHORT, kept, tiny_study

from mglib.config import AblationConfig
from mglib.data.splits import Split
from mglib.experiments import ablations, arms
from mglib.experiments.arms import Course
from mglib.experiments.exams import Way
from mglib.metrics import each
from mglib.model.language import Language
from mglib.model.prompts import VICUNA
from mglib.study.study import DrawnStudy
from mglib.weights.tensors import save_weights


def with_profile(study, **changes):
    other = replace(study, profile=replace(study.profile, **changes))
    other.__dict__.update({name: study.__dict__[name] for name in ("device", "dtype", "vision_state")})
    return other


@pytest.fixture
def study(tmp_path, monkeypatch, vision_config):
    study = tiny_study(tmp_path, monkeypatch, vision_config)
    tried = AblationConfig(train=SHORT, rates=(1e-9, 1e-2), rate_steps=3)
    return with_profile(study, ablation=tried)


@pytest.fixture
def base(tmp_path, llama, tokenizer, captions, model):
    random = torch.Generator().manual_seed(1)
    tokens = kept(tmp_path / "tokens", list(torch.randn(8, 5, 64, generator=random)))
    hashes = tuple(map(str, range(len(captions))))
    split = Split(name="train", hashes=hashes, captions=tuple(captions), images=lambda: iter(()))
    names = ("train", "val", "test_seen")
    return SimpleNamespace(
        model=model(),
        language=Language(model=llama(), tokenizer=tokenizer),
        splits=dict.fromkeys(names, split),
        tokens=dict.fromkeys(names, tokens),
    )


def test_every_arm_is_trained_at_its_own_rate_or_the_common_one(study, base):
    own = replace(study.profile.ablation, lrs=(("three_layers", 1e-3),))
    trained = arms.train(with_profile(study, ablation=own), base)
    assert list(trained.models) == list(trained.logs) == list(ablations.ARMS)
    highest = {name: max(line["lr"] for line in log) for name, log in trained.logs.items()}
    assert highest.pop("three_layers") <= 1e-3 < min(highest.values()) and max(highest.values()) <= SHORT.lr
    said = arms.captions(study, base, trained.models, 3)
    assert {len(texts) for texts in said.values()} == {3}


def test_every_arm_is_tried_at_each_rate_on_val(study, base):
    tried = arms.rates(study, base)
    assert list(tried) == ["arm", "lr", "steps", "loss", "low", "high", "n"]
    assert tried["arm"].tolist() == [name for name in ablations.ARMS for _ in range(2)]
    assert set(tried["steps"]) == {3} and set(tried["n"]) == {8}
    best = tried.loc[tried.groupby("arm")["loss"].idxmin()]
    assert best["lr"].tolist() == [1e-2] * 4


def test_without_a_budget_base_is_stage_1s_model(study, base):
    alone = with_profile(study, ablation=None, lora=None)
    trained = arms.train(alone, base)
    assert trained.models == {"base": base.model} and trained.logs == {}
    learnt = arms.from_questions(alone, base, Way(VICUNA, "{}"))
    assert learnt.models == {"base": base.model} and learnt.log == []


def test_the_course_is_compared_with_its_end():
    covered = {10: each([0.0, 1.0]), 100: each([1.0, 2.0])}
    course = Course(covered, {10: ["a dog", "a"], 100: ["two dogs run", "a"]})
    assert course.estimates()["10"]["references_covered"].value == 0.5
    assert course.estimates()["100"]["words"].value == 2
    gains = course.gains()
    assert list(gains) == ["gained_from_10"] and gains["gained_from_10"]["references_covered"].value == 1
    table = course.table({"100": 2.22})
    assert table["paper"].isna().tolist() == [True, False]
    assert table["first caption"].tolist() == ["a dog", "two dogs run"]


def test_each_kept_part_of_stage_1_captions_by_itself(study, base, monkeypatch, tmp_path, captions):
    shown = list(torch.randn(8, 3, 32, generator=torch.Generator().manual_seed(2)))
    folder, model = tmp_path / "stage1", base.model
    for step in (3, 6):
        weights = {f"projection.{n}": step * w.detach() for n, w in model.projection.named_parameters()}
        save_weights(folder / f"step-{step:06d}.safetensors", weights, {"step": step})
    monkeypatch.setattr(DrawnStudy, "judge", lambda study, split: lambda answer, text: answer == text)
    base.queries, base.trained = {"test_seen": shown}, SimpleNamespace(folder=folder)
    base.splits["test_seen"] = replace(base.splits["test_seen"], references=tuple((c,) for c in captions))
    course = arms.along(study, base)
    assert list(course.texts) == list(course.covered) == [50, 100]
    assert course.texts[50] != course.texts[100] and len(course.texts[50]) == len(captions)
    monkeypatch.setattr(DrawnStudy, "judge", lambda study, split: None)
    assert arms.along(study, base).texts == {}
