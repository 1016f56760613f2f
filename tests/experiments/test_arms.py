"""The arms of a table: each at its best rate, the longer one up to its limit, and the course of stage 1."""

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
from mglib.weights.tensors import save_weights


def with_profile(study, **changes):
    other = replace(study, profile=replace(study.profile, **changes))
    other.__dict__.update({name: study.__dict__[name] for name in ("device", "dtype", "vision_state")})
    return other


@pytest.fixture
def study(tmp_path, monkeypatch, vision_config, pretrain_config):
    study = tiny_study(tmp_path, monkeypatch, vision_config)
    tried = AblationConfig(train=SHORT, rates=(1e-9, 1e-2), rate_steps=3)
    return with_profile(study, ablation=tried, pretrain=pretrain_config)


@pytest.fixture
def base(tmp_path, qformer, llama, tokenizer, captions, model):
    reader, state = qformer().eval(), tmp_path / "qformer.safetensors"
    save_weights(state, dict(reader.named_parameters()), {})
    random = torch.Generator().manual_seed(1)
    tokens = kept(tmp_path / "tokens", list(torch.randn(8, 5, 64, generator=random)))
    hashes = tuple(map(str, range(len(captions))))
    split = Split(name="train", hashes=hashes, captions=tuple(captions), images=lambda: iter(()))
    names = ("train", "val", "test_seen")
    return SimpleNamespace(
        blip2=SimpleNamespace(model=SimpleNamespace(qformer=reader), state=state),
        language=Language(model=llama(), tokenizer=tokenizer),
        splits=dict.fromkeys(names, split),
        tokens=dict.fromkeys(names, tokens),
        model=model(),
    )


def test_every_arm_is_trained_at_the_rate_that_was_best_on_val(study, base):
    trained = arms.train(study, base)
    assert list(trained.models) == list(trained.logs) == list(ablations.ARMS) and trained.longer is None
    rates = trained.rates
    assert len(rates) == 2 * len(ablations.ARMS) and rates[rates["chosen"]]["rate"].tolist() == [1e-2] * 4
    said = arms.captions(study, base, trained.models, 3)
    assert {len(texts) for texts in said.values()} == {3}


def test_the_longer_arm_stops_at_the_limit(study, base, monkeypatch):
    monkeypatch.setattr(arms.effort, "equal_steps", lambda study, base, parts: 16)
    allowed = with_profile(study, ablation=replace(study.profile.ablation, longest=8))
    trained = arms.train(allowed, base)
    assert (trained.longer.steps, trained.longer.equal, trained.longer.share) == (8, 16, 0.5)
    assert trained.logs["no_qformer_longer"][-1]["step"] == 8
    assert trained.logs["no_qformer"][-1]["step"] == SHORT.steps
    config = study.profile.pretrain
    seen = sum(run.steps * run.batch_size for run in (config.representation, config.generative))
    assert trained.longer.captions_before == seen


def test_without_a_budget_base_is_stage_1s_model(study, base):
    alone = with_profile(study, ablation=None, lora=None)
    trained = arms.train(alone, base)
    assert trained.models == {"base": base.model} and trained.logs == {} and len(trained.rates) == 0
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
    monkeypatch.setattr(arms, "judge", lambda study, split: lambda answer, text: answer == text)
    base.queries, base.trained = {"test_seen": shown}, SimpleNamespace(folder=folder)
    base.splits["test_seen"] = replace(base.splits["test_seen"], references=tuple((c,) for c in captions))
    course = arms.along(study, base)
    assert list(course.texts) == list(course.covered) == [50, 100]
    assert course.texts[50] != course.texts[100] and len(course.texts[50]) == len(captions)
    monkeypatch.setattr(arms, "judge", lambda study, split: None)
    assert arms.along(study, base).texts == {}
