"""What notebook 03 tells of a curation: each picture's way in words."""

import pytest

from mglib.config import WellFormed
from mglib.curation.describe import Description
from mglib.curation.select import curate
from mglib.experiments.curated import GENERATED, LAST, Found

GOOD = "A red bus stands in front of a small house. Two dogs sit on the grass and look at it."
TEXTS = [GOOD, "I am sorry.", "A bus."]


@pytest.fixture
def found():
    made = [Description(str(number), (text,), (4,), 0) for number, text in enumerate(TEXTS)]
    return Found(curate(made, TEXTS, WellFormed(min_words=10, max_words=40)), {})


def test_the_funnel_begins_and_ends_where_the_paper_gives_its_numbers(found):
    table = found.funnel_table({GENERATED: 5000, LAST: 3500}).set_index("step")
    assert table["pictures left"].to_dict() == {
        "generated": 3,
        "after repair": 3,
        "after hard-coded rules": 2,
        "after the critic": 2,
        "after selection": 1,
    }
    assert table["pictures left, paper"].tolist() == [5000, "-", "-", "-", 3500]


def test_what_was_dropped_stands_behind_the_step_and_the_reason(found):
    told = [found.why_dropped(one) for one in found.dropped]
    assert told == ["[hard-coded rules: sorry] I am sorry.", "[selection: too short] A bus."]
    assert found.reasons()[["dropped by", "why", "pictures"]].to_numpy().tolist() == [
        ["hard-coded rules", "sorry", 1],
        ["selection", "too short", 1],
    ]
