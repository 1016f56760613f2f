"""Spatial questions: true by the scene graphs, at chance level without looking; the mirror test."""

import re
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from PIL import ImageChops

from mglib.data.splits import annotated_split
from mglib.evals import spatial
from mglib.evals.choices import Losses
from mglib.evals.spatial import Category, Picture, Probe
from mglib.evals.vqa import Exam, picture_places
from mglib.paths import hash_json, read_jsonl
from mglib.world import catalog


@pytest.fixture(scope="module")
def asked(world):
    return spatial.probes(world / "train")


@pytest.fixture(scope="module")
def scenes(world):
    """Return the scene graphs by the places of their pictures."""
    places = picture_places(world / "train")
    return {places[scene["image_id"]]: scene for scene in read_jsonl(world / "train" / "scenes.jsonl")}


def of(asked, relation):
    return [probe for probe in asked if probe.relation == relation]


def pattern(question):
    """Return a pattern that matches a question about any objects."""
    slots = {"a": "(?P<a>.+)", "b": "(?P<b>.+)", "many": "(?P<many>.+)"}
    return re.compile(question.replace("?", r"\?").format(**slots))


def pairs(asked, relation):
    chosen = of(asked, relation)
    return list(zip(chosen[::2], chosen[1::2], strict=True))


@pytest.mark.parametrize(
    ("relation", "predicates"),
    [
        ("left_right", ("left of", "right of")),
        ("above_below", ("above", "below")),
        ("in_front", ("in front of", "behind")),
    ],
)
def test_the_right_answer_is_the_scene_graphs(asked, scenes, relation, predicates):
    for one, other in pairs(asked, relation):
        assert one.picture == other.picture and one.right != other.right
        for probe in (one, other):
            graph = scenes[probe.picture]["relations"]
            wanted = predicates[probe.right]
            links = [(link["subject"], link["object"]) for link in graph if link["predicate"] == wanted]
            found = pattern(spatial.WAYS[relation].question).fullmatch(probe.text)
            assert (found["a"], found["b"]) in links


def test_who_is_asked_about_is_alone_of_its_name(asked, scenes):
    for probe in asked:
        if probe.relation == "nearest":
            names = [item["name"] for item in scenes[probe.picture]["objects"]]
            kinds = [catalog.THINGS[name].supercategory for name in names]
            for option in probe.options:
                assert names.count(option) == 1
                assert not [n for n, kind in zip(names, kinds, strict=True) if kind == option and n != option]


def test_the_nearest_is_named_and_stands_in_front(asked, scenes):
    for one, other in pairs(asked, "nearest"):
        assert one.options == other.options[::-1] and one.right != other.right
        near, far = one.options[one.right], one.options[1 - one.right]
        link = {"subject": near, "predicate": "in front of", "object": far}
        assert link in scenes[one.picture]["relations"]


def test_counts_are_true_and_each_as_often_right_as_wrong(asked, scenes):
    by_options = defaultdict(Counter)
    for probe in of(asked, "counting"):
        many = probe.text.removeprefix("What is the number of ").removesuffix(" here?")
        name = next(thing.name for thing in catalog.THINGS.values() if thing.plural == many)
        there = sum(item["name"] == name for item in scenes[probe.picture]["objects"])
        assert catalog.NUMBERS[there] == probe.options[probe.right]
        by_options[probe.options][probe.right] += 1
    assert ("one", "two") in by_options
    assert all(counts[0] == counts[1] for counts in by_options.values())


@pytest.mark.parametrize("answer", [0, 1])
def test_who_never_looks_is_right_in_half_of_them(asked, answer):
    never = [Losses((float(answer), float(1 - answer)), (1, 1))] * len(asked)
    for relation, scores in spatial.accuracy(never, asked).items():
        assert scores.estimate().value == 0.5, relation
    for scores in spatial.without_bias(never, asked).values():
        assert scores.estimate().value == 0.5


def told(asked, *, bias=0.0, sure=1.0):
    """Return the losses of a model that knows the answers and prefers the first option by `bias`."""
    return [Losses((sure * (probe.right == 1), sure * (probe.right == 0) + bias), (1, 1)) for probe in asked]


def test_what_a_model_likes_cancels_between_the_two_directions(asked):
    biased = told(asked, bias=5.0, sure=0.1)
    assert spatial.accuracy(biased, asked)["left_right"].estimate().value == 0.5
    fair = spatial.without_bias(biased, asked)
    assert set(fair) == set(spatial.WAYS)
    assert all(scores.estimate().value == 1 for scores in fair.values())


def test_a_name_that_means_several_is_not_counted():
    person, runner = Category(1, "person", "person"), Category(107, "runner", "person")
    picture = Picture(1, (((0, 0, 1, 1), person), ((2, 0, 1, 1), runner)), ())
    assert picture.counts() == {runner: 1}


def test_no_training_question_is_put_in_these_words(world, asked):
    exam = Exam.read(world / "train")
    trained = {one.question for _, one in (*exam.choice, *exam.graph)}
    forms = [
        pattern(text)
        for text in (*(w.question for w in spatial.WAYS.values()), spatial.NEAREST, spatial.COUNT)
    ]
    assert all(any(form.fullmatch(probe.text) for form in forms) for probe in asked)
    assert not [text for text in trained if any(form.fullmatch(text) for form in forms)]


def test_mirrored_pictures_are_mirrored_and_have_a_name_of_their_own(world):
    split = annotated_split(world / "val")
    other = spatial.mirrored(split)
    for picture, turned in zip(split.first(3), other.first(3), strict=True):
        assert ImageChops.difference(picture.transpose(0), turned).getbbox() is None
        assert ImageChops.difference(picture, turned).getbbox() is not None
    assert other.key() != split.key() and other.name != split.name
    assert hash_json(spatial.mirrored(split).hashes) == other.key()


def values(found):
    return {
        what: {kind: one.estimate().value for kind, one in scores.items()} for what, scores in found.items()
    }


def test_the_mirror_test_of_who_sees_and_of_who_does_not(asked):
    sees = told(asked)
    turned = [replace(p, right=1 - p.right) if p.relation == "left_right" else p for p in asked]
    seeing = values(spatial.mirror_test(sees, told(turned), asked))
    blind = values(spatial.mirror_test(sees, sees, asked))
    assert seeing["changed"] == {kind: kind == "left_right" for kind in spatial.RELATIONS}
    assert set(seeing["right"].values()) == {1} and seeing["moved"] == {"left_right": 1}
    assert blind["changed"]["left_right"] == blind["right"]["left_right"] == 0


def test_the_mirror_is_noticed_before_an_answer_flips():
    probe = Probe(picture=0, text="", options=("left", "right"), right=0, relation="left_right")
    before, after = Losses((1.0, 5.0), (1, 1)), Losses((1.0, 4.0), (1, 1))
    found = values(spatial.mirror_test([before], [after], [probe]))
    assert found == {"changed": {"left_right": 0}, "right": {"left_right": 0}, "moved": {"left_right": 1}}
