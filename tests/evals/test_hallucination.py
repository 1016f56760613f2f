"""Invented objects, worked out by hand: why this one, and where in the answer."""

import pytest
from tiny_texts import DOG, WORDS

from mglib.evals import chair
from mglib.evals.chair import Truth
from mglib.evals.hallucination import (
    Seen,
    by_object,
    by_sentence,
    by_word,
    explained,
    invented,
    sentences,
    unknown,
)

# bus 3 of 6, dog 3, cat 2, boat 1; the cat is always with a dog.
CAPTIONS = ["a dog and a cat", "dog, cat", "a bus", "two buss", "the bus and a boat", "a dog"]
NOTHING = Truth((), frozenset())


@pytest.fixture
def seen():
    return Seen.count(CAPTIONS, WORDS)


def test_captions_are_counted_by_hand(seen):
    assert seen.ranks("bus", ())["frequency"] == 0.5 and set(seen.ranks("cow", {"dog"}).values()) == {0}
    cat = seen.ranks("cat", {"dog", "bus"})
    assert cat["together"] == 2 / 3 and cat["lift"] == pytest.approx(2 / 3 / (2 / 6))
    assert seen.ranks("cat", {"cow"})["together"] == 0


def test_what_stands_beside_the_objects_explains_the_cat_and_frequency_does_not(seen):
    readings = chair.read(["a dog with a cat and a cat", "a dog"], [DOG, DOG], WORDS)
    found = {cause: counts.estimate().value for cause, counts in explained(readings, seen).items()}
    # Absent and not invented: bus and boat. The cow is in no caption and is not compared.
    assert found == {"frequency": 0.5, "together": 1.0, "lift": 1.0}
    assert explained(readings, seen)["together"].among == [2, 0]


def test_where_nothing_is_known_of_the_picture_all_ties_count_half(seen):
    readings = chair.read(["a bus"], [NOTHING], WORDS)
    found = {cause: counts.estimate().value for cause, counts in explained(readings, seen).items()}
    assert found == {"frequency": pytest.approx(2.5 / 3), "together": 0.5, "lift": 0.5}


def test_an_invented_mention_is_unknown_where_no_caption_names_its_object(seen):
    readings = chair.read(["a cow, a cow, a cat and a dog", "a dog"], [DOG, DOG], WORDS)
    assert unknown(readings, seen) == ([2, 0], [3, 0])  # mentions count each time
    assert invented(readings[0]) == {"cow", "cat"}
    assert explained(readings[:1], seen)["frequency"].among == [2]  # the cat against bus and boat


def test_invented_objects_are_listed_with_their_rates(seen):
    readings = chair.read(["a cat", "a cat, a bus", "dog"], [DOG, DOG, DOG], WORDS)
    first, second = by_object(readings, seen)
    assert first == {"object": "cat", "answers": 2, "rate": 2 / 3, "captions": 2 / 6, "beside": "dog"}
    assert (second["object"], second["answers"]) == ("bus", 1)
    (cow,) = by_object(chair.read(["a cow"], [DOG], WORDS), seen)  # that no caption names
    assert (cow["object"], cow["captions"], cow["beside"]) == ("cow", 0, "-")


def test_sentences_end_at_their_signs():
    assert sentences("A dog. Is it big? Yes!\nA cat") == ["A dog.", "Is it big?", "Yes!", "A cat"]
    assert sentences("") == []


def test_inventions_are_found_in_their_sentence():
    found = by_sentence(["A dog. A cat. A dog and a bus.", "A cat."], [DOG, DOG], WORDS, 2)
    assert found == [([0, 1], [1, 1]), ([2, 0], [3, 0])]


def test_inventions_are_found_at_their_word():
    found = by_word(["a dog and a cat", "cat"], [DOG, DOG], WORDS, (0, 2, 5))
    assert found == {(0, 2): ([0, 1], [1, 1]), (2, 5): ([1, 0], [1, 0])}
