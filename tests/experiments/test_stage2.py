"""Table 3 is put together from the failures of single answers."""

from dataclasses import replace
from pathlib import Path

import pytest

from mglib.evals.failures import KINDS
from mglib.experiments.stage2 import TASKS, Table3, label, reading_order, ways
from mglib.profiles import MINI
from mglib.study.study import Study

ANSWERS = {"describe.before": ["a a a a", "a dog"], "describe.after": ["a dog sits", "a cat"]}
FAILURES = {"describe.before": [{"repetition", "off-topic"}, set()], "describe.after": [set(), set()]}


def test_an_answer_with_any_fault_has_failed():
    failed = Table3(ANSWERS, FAILURES, Path("scenes")).failed()
    assert failed["describe.before"].value == 1 / 2 and failed["describe.after"].value == 0


def test_what_stage_2_cuts_is_paired_and_stands_by_task_and_decoding():
    greedy = {f"{name}.greedy": found[::-1] for name, found in FAILURES.items()}
    cuts = Table3({}, FAILURES | greedy, None).cuts()
    assert list(cuts) == ["describe", "describe.greedy"]
    assert cuts["describe"].value == cuts["describe.greedy"].value == 1 / 2
    same = {"poem.before": [{"empty"}, set()], "poem.after": [{"fragment"}, set()]}
    assert Table3({}, same, None).cuts()["poem"].high == 0  # pictures are drawn together


def test_drift_is_judged_only_where_it_is_known_what_is_there():
    rows = Table3(ANSWERS, FAILURES, Path("scenes")).kinds().set_index("answers")
    before = rows.loc["descriptions, sampled, before"]
    assert before["off-topic"] == before["repetition"] == before["failed"] == 1 / 2
    assert list(rows.columns) == ["failed", *KINDS]
    assert "off-topic" not in Table3(ANSWERS, FAILURES, None).kinds().columns


def test_both_models_answer_in_the_same_three_ways():
    official, greedy, penalty = ways(Study.of(MINI, seed=0, weights="wheel")).values()
    assert official.sample and not greedy.sample and greedy.repetition_penalty == 1.0
    assert penalty == replace(greedy, repetition_penalty=1.2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("describe.before", "descriptions, sampled, before"),
        ("poem.after.greedy", "poems, greedy, after"),
        ("poem.after.penalty", "poems, greedy with penalty 1.2, after"),
    ],
)
def test_readers_see_words_for_answers(name, words):
    assert label(name) == words


def test_verse_is_asked_of_poems_alone():
    poems = {"poem.before": [{"no-verse"}, set()], "describe.before": [{"empty"}, set()]}
    rows = Table3({}, poems, None).kinds().set_index("answers")["no-verse"]
    assert rows.isna().tolist() == [True, False] and rows.iloc[1] == 1 / 2


def test_before_and_after_stand_below_each_other():
    names = ["poem.before", "describe.after.greedy", "describe.after", "describe.before.greedy"]
    assert sorted([*names, "describe.before"], key=reading_order) == [
        "describe.before",
        "describe.after",
        "describe.before.greedy",
        "describe.after.greedy",
        "poem.before",
    ]


def test_style_is_the_mean_over_answers():
    style = Table3(ANSWERS, FAILURES, None).style()
    assert style["words.describe.before"].value == 3
    assert style["distinct1.describe.before"].value == pytest.approx((1 / 4 + 1) / 2)


def test_both_tasks_of_the_paper_are_asked():
    assert set(TASKS) == {"describe", "poem"} and "poem" in TASKS["poem"]
