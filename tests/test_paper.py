"""The paper's numbers: named as ours are, in our units, and consistent among themselves."""

import pytest

from mglib.paper import PAPER, QUOTED
from mglib.repro.report import NUMBER_NAME


def test_every_name_can_be_a_number_of_ours():
    assert [name for name in PAPER if not NUMBER_NAME.fullmatch(name)] == []


def test_nobody_can_change_them():
    with pytest.raises(TypeError):
        PAPER["t5.chair_i.long"] = 0.0


def test_shares_are_fractions():
    counts = {"length", "references_covered", "generated", "kept", "pictures", "samples_per_second"}
    counts.add("trained_parameters")
    assert not [name for name, value in PAPER.items() if value > 1 and not counts & {*name.split(".")}]


@pytest.mark.parametrize("model", ["blip2", "minigpt4"])
def test_the_total_of_table_1_is_the_mean_of_its_tasks(model):
    tasks = [PAPER[f"t1.{task}.{model}"] for task in ("memes", "recipes", "advertisements", "poems")]
    assert sum(tasks) / 4 == pytest.approx(PAPER[f"t1.total.{model}"])


@pytest.mark.parametrize("data", ["aokvqa", "gqa"])
def test_tables_that_repeat_a_number_agree(data):
    assert PAPER[f"t4.{data}.base"] == PAPER[f"t7.{data}.base"]
    assert PAPER["t8.references_covered.100"] == PAPER["t2.references_covered.minigpt4"]


def test_only_the_rows_of_other_peoples_models_are_quoted():
    assert {name for name in PAPER if name.rpartition(".")[2] in QUOTED} == {
        f"t5.{what}.{model}" for what in ("chair_i", "length") for model in ("mplug_owl", "llava")
    }
