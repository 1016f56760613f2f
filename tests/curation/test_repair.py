"""Repair by rules: hand-written paragraphs with one fault each."""

import pytest

from mglib.curation.repair import is_english, repair, sentences, without_loops

GOOD = "A red bus stands in front of a house. Two dogs sit on the grass beside it."


def test_repairing_twice_changes_nothing_more():
    broken = f"### {GOOD} Two dogs sit on the grass beside it. and a cat, a cat, a cat on the"
    assert repair(repair(broken)) == repair(broken) == GOOD


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog, a dog, a dog and a cat.", "a dog and a cat."),
        ("There is a tree tree tree on the hill.", "There is a tree on the hill."),
        (
            "We see the man with the hat and the man with the hat and the man with the hat.",
            "We see the man with the hat and the man with the hat.",
        ),
        (
            "He is on the left side of the long road with a dog and he is on the left side of the long road.",
            "He is on the left side of the long road with a dog and",
        ),
        ("No word comes twice here.", "No word comes twice here."),
    ],
)
def test_loops_are_said_once(text, expected):
    assert without_loops(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The sky is blue. The sky is blue. The sea is calm.", "The sky is blue. The sea is calm."),
        ("The sky is blue. The sea is calm. the sky is BLUE!", "The sky is blue. The sea is calm."),
        ("The sky is blue.The sky is blue.", "The sky is blue."),
        ("The scene shows " + "a cat, a dog, " * 20 + "a", "The scene shows a cat, a dog."),
        (f"{GOOD} In the background there is a", GOOD),
        (f"{GOOD} A dog.", GOOD),  # two words are a fragment
        ("A red bus stands in front of the", "A red bus stands in front."),
        ("a dog in the park", "A dog in the park."),
        ("a house, number 4 B. is", "A house, number 4 B."),
        ("a dog", ""),
        ("the of and", ""),
        ("", ""),
    ],
)
def test_repeated_sentences_stay_once_and_unfinished_ones_are_closed_or_removed(text, expected):
    assert repair(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        f"<Img></Img> {GOOD}###",
        f"{GOOD}<|im_end|>",
        GOOD.replace("bus", "bus \ufffd\ufffd ~~ █"),
        GOOD.replace("house.", "house!!! ..").replace("!", "."),
        GOOD.replace(" ", "  \n"),
        GOOD.replace("house", "https://example.org/a?b house"),
        f"* {GOOD}",
        GOOD.replace("Two dogs", "Two 两只狗 dogs"),
        GOOD.replace("Two dogs", "Two RajaLightBrownGoldcapsadella dogs"),
        f"{GOOD} Der Hund ist auf dem Gras und die Katze ist im Haus.",
        f"{GOOD} El perro está en la calle con los gatos.",
        f"{GOOD} Le chien est sur la table avec une pomme.",
    ],
)
def test_meaningless_characters_other_scripts_and_languages_are_removed(text):
    assert repair(text) == GOOD


@pytest.mark.parametrize(
    "text",
    [GOOD, "A sign (with the number 12) says \"Don't stop\": it's 5% off - today; nothing else."],
)
def test_a_good_text_stays_as_it_is(text):
    assert repair(text) == text


def test_english_with_foreign_names_stays():
    assert is_english("A man eats a croque de la mer in the park with the dog and the cat.")
    assert is_english("Red apples, green pears, yellow bananas.")


@pytest.mark.parametrize(
    "text",
    [
        "The U.S. flag hangs over a shop.",
        "Boat No. 7 lies in the harbour.",
        "A sign says Dr. J. Smith is in at 5 p.m. on this day.",
        "This is the flag of the U.S. The shop is closed.",
        "Prof. Lee and Capt. Hook stand beside St. Paul's.",
    ],
)
def test_the_stop_of_an_abbreviation_ends_no_sentence(text):
    assert repair(text) == text
    assert len(sentences(text)) == 1 + ("The shop" in text)


def test_sentences_end_at_their_stops_and_not_at_titles():
    assert sentences('Mr. Smith waves. "Is it 3.5?" he asks! Yes') == [
        "Mr. Smith waves.",
        '"Is it 3.5?"',
        "he asks!",
        "Yes",
    ]
