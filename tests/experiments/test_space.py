"""The models' answers about space: which number each becomes, and no values without questions."""

from types import SimpleNamespace

import pytest
import torch
from tidy import values
from tiny_world import SMALL

from mglib.config import EvalConfig
from mglib.evals.choices import Losses
from mglib.evals.spatial import RELATIONS, Probe
from mglib.experiments import space
from mglib.experiments.space import Answered
from mglib.model.prompts import VICUNA
from mglib.study.models import PromptedModel


def probe(relation, right, picture=0):
    return Probe(picture=picture, text="?", options=("left", "right"), right=right, relation=relation)


def prefers(option):
    return Losses((float(option != 0), float(option != 1)), (1, 1))


@pytest.fixture
def answered():
    """Return two models' answers: the first always takes the first option, the second is always right."""
    probes = [probe("left_right", 0), probe("left_right", 1), probe("counting", 0), probe("counting", 1, 1)]
    always = [prefers(0)] * 4
    right = [prefers(one.right) for one in probes]
    return Answered(split="test_seen", probes=probes, losses={"minigpt4": always, "stage1": right})


def test_numbers_are_called_by_relation_and_model(answered):
    found = space.accuracies(answered)
    assert values(found) == {
        "spatial.accuracy.left_right.minigpt4": 0.5,
        "spatial.accuracy.left_right.stage1": 1,
        "spatial.accuracy.counting.minigpt4": 0.5,
        "spatial.accuracy.counting.stage1": 1,
        "spatial.without_bias.left_right.minigpt4": 0.5,  # both directions alike: a tie
        "spatial.without_bias.left_right.stage1": 1,
    }
    assert found["note"][0] == "2 two-choice questions on test_seen, chance 0.5"
    assert found["note"].iloc[-1] == "1 two-choice questions on test_seen, chance 0.5"


def test_where_nothing_can_be_asked_nothing_is_answered():
    study = SimpleNamespace(scenes=lambda name: None, tests=("test_coco",))
    base = SimpleNamespace(queries={"test_coco": []})
    assert space.probes(study) == [] and space.examples([]).empty
    answered = space.answer(study, base, {"minigpt4": None}, [])
    assert answered.losses == {}
    for found in (space.accuracies(answered), space.mirror_test(study, base, {}, answered)):
        assert "no relations are annotated" in found["note"][0] and found["value"].isna().all()


def test_minigpt4_is_also_asked_before_a_blank_picture_and_before_others(monkeypatch):
    seen = {}
    monkeypatch.setattr(space.vqa, "blank", lambda vision, qformer: "blank")
    monkeypatch.setattr(
        space.choices,
        "option_losses",
        lambda model, queries, template, asked, *, what, **how: seen.setdefault(what, queries),
    )
    one = SimpleNamespace(model=SimpleNamespace(qformer=None), template=VICUNA)
    study = SimpleNamespace(
        tests=("test",), seed=0, profile=SimpleNamespace(evaluation=SimpleNamespace(batch_size=8))
    )
    base = SimpleNamespace(queries={"test": ["a", "b", "c"]}, vision=None)
    answered = space.answer(study, base, {"stage1": one, "minigpt4": one}, [probe("left_right", 0)])
    assert list(answered.losses) == ["stage1", "minigpt4", "blank", "shuffled"]
    assert seen["blank, spatial"] == ["blank"] * 3 and seen["minigpt4, spatial"] == ["a", "b", "c"]
    assert all(shown != own for shown, own in zip(seen["shuffled, spatial"], "abc", strict=True))


def test_a_tiny_model_answers_every_question_of_a_small_world(world, model, random, monkeypatch):
    monkeypatch.setattr(space.vqa, "blank", lambda vision, qformer: torch.zeros(3, 32))
    profile = SimpleNamespace(evaluation=EvalConfig(batch_size=32))
    study = SimpleNamespace(profile=profile, tests=("train",), world=world, scenes=lambda name: world, seed=0)
    probes = space.probes(study)
    assert {probe.relation for probe in probes} == set(RELATIONS)
    shown = space.examples(probes)
    assert list(shown["relation"]) == [space.NAMES[relation] for relation in RELATIONS]
    assert all(line.right in line.options.split(" / ") for line in shown.itertuples())
    queries = list(torch.randn(SMALL.train, 3, 32, generator=random))
    base, some = SimpleNamespace(queries={"train": queries}, vision=None), probes[:8]
    prompted = PromptedModel(model=model(), template=VICUNA)
    found = space.answer(study, base, {"minigpt4": prompted}, some)
    assert found.split == "train" and len(found.losses["minigpt4"]) == 8
