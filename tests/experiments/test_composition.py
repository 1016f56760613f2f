"""Descriptions of the test pictures: who is asked about what, and what is counted of the answers."""

from types import SimpleNamespace

import pytest

from mglib.config import EvalConfig
from mglib.data.splits import Split
from mglib.evals import chair
from mglib.evals.chair import Truth
from mglib.experiments import composition
from mglib.experiments.composition import Composition, Described
from mglib.metrics import Vocabulary

WORDS = Vocabulary({name: [name, f"{name}s"] for name in ("dog", "cat", "bus", "boat")})
DOG = Truth((frozenset({"dog"}),), frozenset({"dog"}))


def split(name, count, objects=()):
    return Split(
        name=name,
        hashes=("",) * count,
        captions=("",) * count,
        images=lambda: iter(()),
        references=((),) * count,
        objects=objects,
    )


def described(name, said, truths, words=WORDS):
    readings = chair.read(said, truths, words)
    return Described(split=split(name, len(said)), queries=[], said=said, readings=readings, words=words)


class Says:
    """Stands for a model: says the same of every picture and remembers what it was asked."""

    def __init__(self, text):
        self.text, self.asked = text, []

    def answers(self, queries, text, decoding, *, batch_size, what):
        self.asked.append((list(queries), text, decoding.max_new_tokens, what))
        return [self.text] * len(queries)


@pytest.fixture
def study():
    """Return a study of photographs, of which two a split are described."""
    sizes = EvalConfig(limit_pictures=2, limit_tokens=9, limit_short_tokens=7)
    profile = SimpleNamespace(world=None, evaluation=sizes)
    return SimpleNamespace(profile=profile, tests=("test_a", "test_b"), scenes=lambda name: None)


@pytest.fixture
def base():
    objects = (frozenset({"dog"}), frozenset({"cat"}), frozenset({"bus"}))
    splits = {"test_a": split("test_a", 3, objects), "test_b": split("test_b", 1, objects[:1])}
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
    table = composition.openings(told, "test_b")
    assert list(table.index) == ["MiniGPT-4, short", "MiniGPT-4, long"]
    assert list(table["the first answer on test_b"]) == ["a dog and a boat"] * 2


def test_blip2_is_asked_for_a_caption_where_there_is_one(study):
    assert list(composition.requests(study, {"minigpt4": None})) == ["short", "long"]
    both = composition.requests(study, {"minigpt4": None, "blip2": None})
    assert list(both) == ["blip2", "short", "long"] and both["blip2"].text == ""


@pytest.fixture
def composed():
    told = {
        ("long", "test_seen"): described("test_seen", ["a dog and a cat", "a dog"], [DOG, DOG]),
        ("long", "test_new"): described("test_new", ["a cat, a bus, a dog, a dog"], [DOG]),
    }
    return Composition.of(told, "test_seen")


def test_other_splits_are_compared_with_the_seen_one(composed):
    found = composed.estimates()
    assert found["chair_i.long.test_seen"].value == pytest.approx(1 / 3)
    assert found["chair_i.long.test_new"].value == 1 / 2
    assert found["chair_i.long.test_new.difference"].value == pytest.approx(1 / 6)
    assert found["precision.long.test_new"].value == pytest.approx(1 / 3)  # each object once
    assert found["object_recall.long.test_new"].value == 1
    assert "chair_i.long.test_seen.difference" not in found


def test_every_number_of_composition_has_its_note_and_the_seen_ones_the_papers(composed):
    notes = composed.notes()
    assert set(composed.estimates()) <= set(notes)
    assert notes["chair_i.long.test_seen"] == "first 2 of test_seen, greedy"
    assert notes["chair_i.long.test_new.difference"] == "less test_seen; other pictures, unpaired"
    assert composed.of_paper()["chair_i.long.test_seen"] == "t5.chair_i.long"
    assert not [name for name in composed.of_paper() if "test_new" in name]


def test_a_part_is_drawn_by_request_and_split(composed):
    found = composed.by_request("chair_i")
    assert list(found) == ["long"] and list(found["long"]) == ["test_seen", "test_new"]


def test_new_and_known_objects_are_recalled_apart():
    new = sorted(chair.new_objects())[0]
    there = Truth((frozenset({new}), frozenset({"dog"})), frozenset({new, "dog"}))
    told = {
        ("long", "test_new"): described("test_new", ["a dog"], [there], chair.vocabulary()),
        ("long", "test_seen"): described("test_seen", [f"a {new}"], [there], chair.vocabulary()),
    }
    found = composition.recalls(told, "test_new")
    assert found["new"]["long"].value == 0 and found["known"]["long"].value == 1
    assert composition.recalls(told, "test_absent") == {"new": {}, "known": {}}


def test_photographs_have_a_number_for_each_request():
    found = composition.photograph_scores({"long": described("photographs", ["a dog, a cat"], [DOG])})
    assert {name: one.value for name, one in found.items()} == {
        "object_recall.long": 1,
        "chair_i.long": 0.5,
    }
