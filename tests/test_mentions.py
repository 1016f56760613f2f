"""Objects named in texts: by all their names, and on sentences labelled by kind (mentions.csv)."""

from collections import Counter

import pytest

from mglib.evals import chair
from mglib.mentions import Vocabulary, introduced, object_counts
from mglib.metrics import read_rows, words

ROWS = read_rows(chair.EVALUATION / "mentions.csv")
VOCABULARY = chair.photo_vocabulary()


def precision_and_recall(rows, read):
    """Count every mention of every sentence."""
    pairs = [(Counter(read(row["text"])), Counter(filter(None, row["objects"].split("|")))) for row in rows]
    hits = sum((found & true).total() for found, true in pairs)
    return hits / sum(found.total() for found, _ in pairs), hits / sum(true.total() for _, true in pairs)


def names_alone(text):
    return [name for _, _, name in VOCABULARY.spans(words(text))]


def test_the_list_holds_every_kind_in_both_parts():
    kinds = {"denied", "affirmed", "verb", "noun", "set phrase", "plain"}
    assert len(ROWS) >= 180 and Counter(row["split"] for row in ROWS).keys() == {"rules", "held out"}
    assert {(row["split"], row["kind"]) for row in ROWS} == {
        (s, k) for s in ("rules", "held out") for k in kinds
    }


@pytest.mark.parametrize(
    ("split", "precision", "recall"), [("rules", 0.961, 0.961), ("held out", 0.966, 1.0)]
)
def test_what_is_denied_done_or_a_phrase_is_no_object(split, precision, recall):
    rows = [row for row in ROWS if row["split"] == split]
    found = precision_and_recall(rows, VOCABULARY.mentions)
    assert found == pytest.approx((precision, recall), abs=5e-4)  # as data/README.md publishes them
    assert precision_and_recall(rows, names_alone)[0] < 0.75


def test_a_mention_is_placed_at_its_word_whatever_signs_are_there():
    assert VOCABULARY.named("No cat! A hot dog, and (look) a dog.") == [(3, "hot dog"), (8, "dog")]


def test_hallucinations_are_pooled_over_mentions_each_time():
    named = [["dog", "dog", "bus"], ["bear"], []]
    counts = object_counts(named, [{"dog", "cup"}, {"bear"}, {"truck"}])
    assert counts["chair_i"] == ([1, 0, 0], [3, 1, 0])  # the bus
    assert counts["mention_precision"] == ([1, 1, 0], [2, 1, 0])
    assert counts["mention_recall"] == ([1, 1, 0], [2, 1, 1])
    with pytest.raises(ValueError):
        object_counts(named[:2], [{"dog"}])


def test_a_smaller_vocabulary_still_reads_the_longest_name():
    few = Vocabulary(
        {name: [name] for name in ("dog", "bear", "teddy bear", "hot dog")}, only=["dog", "bear"]
    )
    assert few.names == {"dog", "bear"}
    assert few.mentions("a teddy bear, a hot dog, a dog and a bus") == ["dog"]


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("A small turkey is on the table.", ["small turkey"]),
        ("two dogs and a kite, near another lake", ["dogs and", "kite", "lake"]),
        ("This is a picture of a group of people.", []),
        ("a small, delicate flower in Dorchester County", ["small, delicate flower", "Dorchester County"]),
        ("the dog", []),
    ],
)
def test_what_introduces_something_is_found_and_what_frames_a_picture_is_not(text, phrases):
    assert introduced(text) == phrases
