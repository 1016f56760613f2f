"""The paper's numbers: named as ours are, in our units, and consistent among themselves."""

import pytest

from mglib.paper import PAPER
from mglib.repro.report import NUMBER_NAME


def test_every_name_can_be_a_number_of_ours():
    assert [name for name in PAPER if not NUMBER_NAME.fullmatch(name)] == []


def test_shares_are_fractions():
    counts = {"length", "references_covered", "generated", "kept", "pictures", "samples_per_second"}
    counts.add("trained_parameters")
    assert not [name for name, value in PAPER.items() if value > 1 and not counts & {*name.split(".")}]


@pytest.mark.parametrize("model", ["blip2", "minigpt4"])
def test_the_total_of_table_1_is_the_mean_of_its_tasks(model):
    tasks = [PAPER[f"t1.{task}.{model}"] for task in ("memes", "recipes", "advertisements", "poems")]
    assert sum(tasks) / 4 == pytest.approx(PAPER[f"t1.total.{model}"])
