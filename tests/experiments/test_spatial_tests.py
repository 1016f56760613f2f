"""The models' answers about space: which number each becomes, and that no questions bring no numbers."""

from types import SimpleNamespace

import pytest
import torch
from tiny_world import SMALL

from mglib.config import EvalConfig
from mglib.evals.choices import Losses
from mglib.evals.spatial import RELATIONS, Probe
from mglib.experiments import spatial_tests
from mglib.experiments.spatial_tests import Answered, number_name
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


def test_numbers_are_called_by_relation_way_and_model(answered):
    found = {name: one.value for name, one in answered.estimates().items()}
    assert found == {
        "counting": 0.5,
        "left_right": 0.5,
        "left_right.without_bias": 0.5,  # both directions alike: a tie
        "counting.stage1": 1,
        "left_right.stage1": 1,
        "left_right.without_bias.stage1": 1,
    }
    notes = answered.notes()
    assert set(notes) == set(found)
    assert notes["left_right"] == "2 two-choice questions on test_seen, chance 0.5"
    assert notes["left_right.without_bias"] == "1 two-choice questions on test_seen, chance 0.5"


def test_the_figure_has_a_row_for_each_model_and_way(answered):
    found = answered.by_relation()
    assert list(found) == ["left or right", "counting"]
    assert list(found["left or right"]) == [
        "MiniGPT-4",
        "MiniGPT-4, without bias",
        "stage 1",
        "stage 1, without bias",
    ]


def test_the_mirrors_numbers_begin_with_what_was_measured():
    assert number_name(("minigpt4", "left_right", "moved")) == "moved.left_right"
    assert number_name(("stage1", "left_right", "moved")) == "moved.left_right.stage1"


def test_the_mirrors_table_has_a_row_for_each_model_and_relation():
    keys = [("stage1", "left_right", "changed"), ("stage1", "left_right", "moved")]
    found = {key: None for key in (("stage1", "counting", "changed"), *keys)}
    assert spatial_tests.mirror_rows(found) == {
        "stage 1, left or right": {"changed": None, "moved": None},
        "stage 1, counting": {"changed": None},
    }


def test_where_nothing_can_be_asked_nothing_is_answered():
    study = SimpleNamespace(scenes=lambda name: None, tests=("test_coco",))
    base = SimpleNamespace(queries={"test_coco": []})
    assert spatial_tests.probes(study) == []
    assert len(spatial_tests.examples([])) == 0
    assert spatial_tests.unasked([]) == RELATIONS
    answered = spatial_tests.answered(study, base, {"minigpt4": None}, [])
    assert answered.losses == answered.estimates() == answered.by_relation() == {}
    found = spatial_tests.mirror_test(study, base, {}, answered)
    assert found == spatial_tests.mirror_rows(found) == {}


def test_a_tiny_model_answers_every_question_of_a_small_world(world, model, random):
    profile = SimpleNamespace(evaluation=EvalConfig(batch_size=32))
    study = SimpleNamespace(profile=profile, tests=("train",), world=world, scenes=lambda name: world)
    probes = spatial_tests.probes(study)
    assert spatial_tests.unasked(probes) == ()
    shown = spatial_tests.examples(probes)
    assert list(shown.index) == [spatial_tests.NAMES[relation] for relation in RELATIONS]
    assert all(line.right in line.options.split(" / ") for line in shown.itertuples())
    queries = list(torch.randn(SMALL.train, 3, 32, generator=random))
    base, some = SimpleNamespace(queries={"train": queries}), probes[:8]
    prompted = PromptedModel(model=model(), template=VICUNA)
    found = spatial_tests.answered(study, base, {"minigpt4": prompted}, some)
    assert found.split == "train" and len(found.losses["minigpt4"]) == 8
