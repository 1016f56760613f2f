"""Table 3 is put together from the failures of single answers."""

from pathlib import Path

import pytest

from mglib.experiments.stage2 import TASKS, Table3

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
    assert rows.loc["describe.before", "off-topic"] == rows.loc["describe.before", "repetition"] == 1 / 2
    assert "off-topic" not in Table3(ANSWERS, FAILURES, None).kinds().columns


def test_style_is_the_mean_over_answers():
    style = Table3(ANSWERS, FAILURES, None).style()
    assert style["words.describe.before"].value == 3
    assert style["distinct1.describe.before"].value == pytest.approx((1 / 4 + 1) / 2)


def test_both_tasks_of_the_paper_are_asked():
    assert set(TASKS) == {"describe", "poem"} and "poem" in TASKS["poem"]
