"""Facts read from texts, each worked out by hand."""

import pytest

from mglib.evals.facts import implied, parse


def facts(*said):
    return {tuple(one.split(":")) for one in said}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog.", ["object:dog"]),
        ("Two dogs and a cat on the beach", ["object:dog", "count:dog:2", "object:cat", "setting:beach"]),
        ("a cat and a cat", ["object:cat", "count:cat:2"]),
        ("A dog. The dog is big. I see a dog.", ["object:dog"]),
        ("two dogs. The dogs run.", ["object:dog", "count:dog:2"]),
        ("three small brown dogs", ["object:dog", "count:dog:3"]),
        ("a pair of scissors and two slices of pizza", ["object:scissors", "object:pizza", "count:pizza:2"]),
        ("There is no dog, only a cat without a ball.", ["object:cat"]),
        ("Do not miss a cup.", ["object:cup"]),
        ('A dog and a sign that says "LAKE HOUSE"', ["object:dog", "writing:lake house"]),
        ("a runner among the trees", ["object:runner", "setting:forest"]),
        ("an office building", ["object:office building"]),
        ("a tree downtown at night", ["object:tree", "setting:night city"]),
        ("what a wonderful day", []),
        ("", []),
    ],
)
def test_objects_counts_places_and_writing(text, expected):
    assert parse(text) == facts(*expected)


def relations(text):
    return {fact[1:] for fact in parse(text) if fact[0] == "relation"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog to the left of a cat.", {("dog", "left of", "cat")}),
        ("A cat is on the right of two dogs.", {("dog", "left of", "cat")}),
        ("a kite high above a boat", {("kite", "above", "boat")}),
        ("a boat beneath a kite", {("kite", "above", "boat")}),
        ("A dog behind a cat behind a bus", {("cat", "in front of", "dog"), ("bus", "in front of", "cat")}),
        ("Behind the dog is a cat.", {("dog", "in front of", "cat")}),
        ("A bus is here, and behind the dog is a cat.", {("dog", "in front of", "cat")}),
        ("There is a dog. To its left is a cat.", {("cat", "left of", "dog")}),
        ("There is a dog. A cat stands behind it.", {("dog", "in front of", "cat")}),
        ("A dog and a cat are to the left of a bus", {("dog", "left of", "bus"), ("cat", "left of", "bus")}),
        ("A dog, with a cat to its right", {("dog", "left of", "cat")}),
        ("A dog on the left and a cat on the right", set()),  # not of each other: not read
        ("A kite over the beach and a dog", set()),
        ("a dog under the sky with a cat", set()),
        ("left of", set()),
    ],
)
def test_relations_have_one_direction(text, expected):
    assert relations(text) == expected


def test_a_runner_implies_a_person_and_not_the_other_way_round():
    assert ("object", "person") in implied(parse("a runner"))
    assert ("object", "runner") not in implied(parse("a person"))
