"""What is invented, why and where, from answers that were read by hand."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image
from tidy import values
from tiny_texts import DOG, WORDS, split_of

from mglib.evals import chair
from mglib.evals.attention import Look
from mglib.experiments import inventions
from mglib.experiments.composition import Described

SAID = ["A dog.", "A dog. A cat and a bus.", "A cow. A dog."]


@pytest.fixture
def told():
    images = [Image.new("RGB", (place + 1, 1)) for place in range(3)]
    return Described(
        split=split_of("test", SAID, images=lambda: iter(images)),
        queries=[],
        said=SAID,
        readings=chair.read(SAID, [DOG] * 3, WORDS),
        words=WORDS,
    )


def test_examples_are_the_first_pictures_about_which_something_is_invented(told):
    pictures, lines = inventions.examples(told, 1)
    assert [picture.width for picture in pictures] == [2]
    assert lines == ["INVENTED bus, cat. SAID A dog. A cat and a bus."]
    assert [picture.width for picture in inventions.examples(told, 5)[0]] == [2, 3]
    nothing = replace(told, readings=told.readings[:1])
    assert inventions.examples(nothing, 5) == ([], [])


def test_the_captions_are_those_of_training_where_they_are_kept(told):
    kept = {"train": split_of("train", ["a dog and a cat", "a dog"]), "pool": split_of("pool", ["a bus"])}
    assert inventions.captions_seen(SimpleNamespace(splits=kept), told).alone == {"dog": 2, "cat": 1}
    del kept["train"]
    assert inventions.captions_seen(SimpleNamespace(splits=kept), told).alone == {"bus": 1}


def test_causes_and_objects_without_any_caption(told):
    base = SimpleNamespace(splits={"pool": split_of("pool", ["a dog and a cat", "a bus", "a boat", "a bus"])})
    seen = inventions.captions_seen(base, told)
    # Cat (1 of 4) and bus (2 of 4) against the boat (1 of 4), which is absent and not invented.
    found = values(inventions.causes(told, seen))
    assert found["hallucination.above.frequency"] == pytest.approx((0.5 + 1) / 2)
    assert found["hallucination.unknown"] == pytest.approx(1 / 3)  # the cow, of cat, bus and cow
    table = inventions.most_invented(told, seen)
    assert list(table["invented object"]) == ["bus", "cat", "cow"]
    assert list(table) == list(inventions.HEADS.values())
    assert len(inventions.most_invented(told, seen, most=2)) == 2


def test_positions_are_by_sentence_and_by_word(told):
    found = inventions.positions(told)
    by = values(found)
    assert by["hallucination.where.sentence_1"] == pytest.approx(1 / 3)
    assert by["hallucination.where.sentence_2"] == pytest.approx(2 / 3)
    assert by["hallucination.where.words_0_9"] == 0.5
    assert math.isnan(by["hallucination.where.sentence_4"]) and math.isnan(
        by["hallucination.where.words_10_19"]
    )
    assert set(found["system"]) <= set(inventions.POSITIONS)


def test_attention_is_compared_within_an_answer_and_along_it(told):
    looked = [
        [Look("dog", 1, 0.4)],
        [Look("dog", 1, 0.4), Look("cat", 3, 0.2), Look("bus", 12, 0.1)],
        [Look("cow", 1, 0.5), Look("dog", 3, 0.3)],
    ]
    found = values(inventions.attended(told, looked))
    assert found["hallucination.attention.true"] == pytest.approx(1.1 / 3)
    assert found["hallucination.attention.invented"] == pytest.approx(0.8 / 3)
    assert found["hallucination.attention.within"] == pytest.approx((0.25 - 0.2) / 2)
    assert found["hallucination.attention.words_0_9.invented"] == pytest.approx(0.35)
    assert found["hallucination.attention.words_10_19.invented"] == pytest.approx(0.1)
    assert math.isnan(found["hallucination.attention.words_10_19.true"])
