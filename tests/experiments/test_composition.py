"""Descriptions of the test pictures: who is asked about what, and what is counted of the answers."""

from types import SimpleNamespace

import pytest
from tidy import values
from tiny_texts import DOG, WORDS, split_of

from mglib.config import EvalConfig
from mglib.evals import chair
from mglib.evals.chair import Truth
from mglib.experiments import composition
from mglib.experiments.composition import Described


def described(name, said, truths, words=WORDS):
    readings = chair.read(said, truths, words)
    return Described(split=split_of(name, said), queries=[], said=said, readings=readings, words=words)


class Says:
    """Stands in for a model: gives every picture the same answer and records what it was asked."""

    def __init__(self, text):
        self.text, self.asked = text, []

    def answers(self, queries, text, decoding, *, batch_size, what):
        self.asked.append((list(queries), text, decoding.max_new_tokens, what))
        return [self.text] * len(queries)


@pytest.fixture
def study():
    """Return a study of photographs that describes two per split."""
    sizes = EvalConfig(limit_pictures=2, failure_tokens=9, brief_tokens=7)
    profile = SimpleNamespace(world=None, evaluation=sizes)
    tests, scenes = ("test_a", "test_b"), lambda name: None
    return SimpleNamespace(profile=profile, tests=tests, scenes=scenes, nameable=chair.photo_vocabulary)


@pytest.fixture
def base():
    objects = (frozenset({"dog"}), frozenset({"cat"}), frozenset({"bus"}))
    splits = {
        name: split_of(name, [""] * count, references=((),) * count, objects=objects[:count])
        for name, count in {"test_a": 3, "test_b": 1}.items()
    }
    return SimpleNamespace(splits=splits, queries={"test_a": [1, 2, 3], "test_b": [4]})


def test_each_request_goes_to_its_model_about_the_first_pictures(study, base):
    prompted = Says("a dog and a boat")
    told = composition.describe(study, base, {"minigpt4": prompted, "stage1": Says("")})
    assert list(told) == [(what, name) for what in ("short", "long") for name in ("test_a", "test_b")]
    assert [(shown, most, what) for shown, _, most, what in prompted.asked] == [
        ([1, 2], 7, "short, test_a"),
        ([4], 7, "short, test_b"),
        ([1, 2], 9, "long, test_a"),
        ([4], 9, "long, test_b"),
    ]
    assert [reading.wrong for reading in told["long", "test_a"].readings] == [[False, True], [True, True]]


def test_blip2_is_asked_for_a_caption_where_there_is_one(study):
    assert list(composition.requests(study, {"minigpt4": None})) == ["short", "long"]
    both = composition.requests(study, {"minigpt4": None, "blip2": None})
    assert list(both) == ["blip2", "short", "long"] and both["blip2"][:2] == ("blip2", "")


def test_other_splits_are_compared_with_the_seen_one():
    told = {
        ("long", "test_seen"): described("test_seen", ["a dog and a cat", "a dog"], [DOG, DOG]),
        ("long", "test_new"): described("test_new", ["a cat, a bus, a dog, a dog"], [DOG]),
    }
    found = composition.composed(told, "test_seen")
    assert values(found) == {
        "composition.chair_i.test_seen.long": pytest.approx(1 / 3),
        "composition.object_recall.test_seen.long": 1,
        "composition.chair_i.test_new.long": 1 / 2,
        "composition.object_recall.test_new.long": 1,
        "composition.chair_i.test_new.long.difference": pytest.approx(1 / 6),
    }
    assert found["note"][0] == "first 2 of test_seen, greedy"
    assert found["note"].iloc[-1] == "minus test_seen; other pictures, unpaired"


def test_new_and_known_objects_are_recalled_apart():
    new = sorted(chair.new_objects())[0]
    there = Truth((frozenset({new}), frozenset({"dog"})), frozenset({new, "dog"}))
    told = {
        ("long", "test_new"): described("test_new", ["a dog"], [there], chair.vocabulary()),
        ("long", "test_seen"): described("test_seen", [f"a {new}"], [there], chair.vocabulary()),
    }
    found = values(composition.recalls(told, "test_new"))
    assert found == {"composition.recall_new.long": 0, "composition.recall_known.long": 1}
    assert composition.recalls(told, "test_absent").empty


def test_of_photographs_it_is_said_how_many_objects_are_named():
    found = composition.named_in_photographs({"long": described("photographs", ["a dog, a cat"], [DOG])})
    assert found.to_dict("records") == [{"asked": "MiniGPT-4, long", "named": 1, "listed": 1}]
