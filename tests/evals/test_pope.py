"""POPE: which questions are asked, how answers are read, and the scores, worked out by hand."""

from collections import Counter
from pathlib import Path

import pandas
import pytest

from mglib.evals.chair import Truth
from mglib.evals.pope import WAYS, Question, counts, parse, questions
from mglib.metrics import paired
from mglib.paths import read_jsonl

OBJECTS = [
    frozenset({"dog", "cat"}),
    frozenset({"dog", "cat", "bus"}),
    frozenset({"dog", "ball"}),
    frozenset({"fish"}),
    frozenset({"dog", "runner"}),
]
TRUTHS = [Truth((), names) for names in OBJECTS]


def absent(way, picture, seed=0):
    asked = questions(OBJECTS, TRUTHS, way, seed=seed)
    return [one.object for one in asked if one.picture == picture and not one.answer]


@pytest.mark.parametrize("way", WAYS)
def test_yes_and_no_are_balanced_and_true(way):
    asked = questions(OBJECTS, TRUTHS, way, seed=0)
    for picture, names in enumerate(OBJECTS):
        mine = [one for one in asked if one.picture == picture]
        assert all((one.object in names) == one.answer for one in mine)
        assert Counter(one.answer for one in mine) == {True: len(names), False: len(names)}
        assert len({one.object for one in mine}) == len(mine)


def test_popular_objects_are_the_most_frequent_that_are_absent():
    assert absent("popular", 3) == ["dog"]
    assert set(absent("popular", 2)) < {"cat", "bus", "fish", "runner"} and "cat" in absent("popular", 2)


def test_adversarial_objects_are_those_that_keep_company_with_what_is_there():
    assert "bus" in absent("adversarial", 0)
    assert "cat" in absent("adversarial", 4)
    assert absent("adversarial", 4)[0] == "cat"  # twice with a dog


def test_random_objects_change_with_the_seed_and_the_ways_share_their_yes_questions():
    assert len({tuple(absent("random", 3, seed=seed)) for seed in range(20)}) > 2
    asked = [questions(OBJECTS, TRUTHS, way, seed=0) for way in WAYS]
    yes = [{(one.picture, one.object) for one in some if one.answer} for some in asked]
    assert yes[0] == yes[1] == yes[2]


def test_nothing_is_asked_that_can_truly_be_said():
    sayable = [Truth((), names | {"dog", "person"}) for names in OBJECTS]
    asked = questions(OBJECTS, sayable, "popular", seed=0)
    assert not [one for one in asked if one.object == "dog" and not one.answer]


def ask(*answers):
    return [Question(picture, "dog", "?", right) for picture, right in answers]


def test_scores_worked_out_by_hand():
    asked = ask((0, True), (0, False), (0, True), (0, False), (2, True), (2, False))
    said = ["yes", "yes", "no", "no", "a dog", "no"]
    scores = {name: count.estimate() for name, count in counts(asked, said).items()}
    assert {name: score.value for name, score in scores.items()} == {
        "accuracy": pytest.approx(3 / 6),
        "precision": pytest.approx(1 / 2),
        "recall": pytest.approx(1 / 3),
        "f1": pytest.approx(2 / 5),
        "yes_ratio": pytest.approx(2 / 6),
        "unparsed": pytest.approx(1 / 6),
    }
    assert {score.n for score in scores.values()} == {2}  # pictures, not questions


def test_a_model_that_always_says_yes_recalls_all_at_chance():
    asked = questions(OBJECTS, TRUTHS, "random", seed=0)
    scores = counts(asked, ["Yes."] * len(asked))
    assert scores["accuracy"].estimate().value == 0.5 and scores["recall"].estimate().value == 1
    assert scores["yes_ratio"].estimate().value == 1
    silent = counts(asked, ["hm"] * len(asked))
    assert silent["precision"].estimate() is None and silent["unparsed"].estimate().value == 1
    better = paired(scores["recall"], silent["recall"])
    assert (better.value, better.high) == (1, 1) and better.low > 0.4


FORMS = pandas.DataFrame(read_jsonl(Path(__file__).parent / "labelled" / "yes_or_no.jsonl"))  # by hand


@pytest.mark.parametrize("form", FORMS["form"].unique())
def test_answers_of_this_form_are_read_as_a_person_reads_them(form):
    rows = FORMS[FORMS["form"] == form]
    means = {True: "yes", False: "no", None: "neither"}
    assert {one: means[parse(one)] for one in rows["answer"]} == dict(rows[["answer", "means"]].values)


def test_the_list_of_forms_is_long_and_balanced():
    assert len(FORMS) >= 120 and FORMS["means"].value_counts().min() >= 15
