"""The models' answers about space: which number each becomes, and that no questions bring no numbers."""

from types import SimpleNamespace

import pytest
import torch
from tiny_world import SMALL

from mglib import frame
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
    """Left or right is right in one direction only, counting once of two, for the first of two models."""
    probes = [probe("left_right", 0), probe("left_right", 1), probe("counting", 0), probe("counting", 1, 1)]
    always = [prefers(0)] * 4
    right = [prefers(one.right) for one in probes]
    return Answered(split="test_seen", probes=probes, losses={"minigpt4": always, "stage1": right})


def test_numbers_are_called_by_relation_and_model(answered):
    found = space.accuracies(answered)
    assert dict(zip(frame.names(found), found["value"], strict=True)) == {
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


def test_a_tiny_model_answers_every_question_of_a_small_world(world, model, random):
    profile = SimpleNamespace(evaluation=EvalConfig(batch_size=32))
    study = SimpleNamespace(profile=profile, tests=("train",), world=world, scenes=lambda name: world)
    probes = space.probes(study)
    assert {probe.relation for probe in probes} == set(RELATIONS)
    shown = space.examples(probes)
    assert list(shown["relation"]) == [space.NAMES[relation] for relation in RELATIONS]
    assert all(line.right in line.options.split(" / ") for line in shown.itertuples())
    queries = list(torch.randn(SMALL.train, 3, 32, generator=random))
    base, some = SimpleNamespace(queries={"train": queries}), probes[:8]
    prompted = PromptedModel(model=model(), template=VICUNA)
    found = space.answer(study, base, {"minigpt4": prompted}, some)
    assert found.split == "train" and len(found.losses["minigpt4"]) == 8
