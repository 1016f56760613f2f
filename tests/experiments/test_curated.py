"""What notebook 03 shows of a curation: each picture's way in words."""

from types import SimpleNamespace

import pytest

from mglib.config import WellFormed
from mglib.curation.describe import Description
from mglib.curation.select import curate
from mglib.experiments import curated
from mglib.frame import names
from mglib.profiles import MINI

GOOD = "A red bus stands in front of a small house. Two dogs sit on the grass and look at it."
TEXTS = [f"{GOOD} and", "I am sorry.", "A bus."]


@pytest.fixture
def curation():
    made = [Description(str(number), (text,), (4,), 0) for number, text in enumerate(TEXTS)]
    return curate(made, [GOOD, *TEXTS[1:]], WellFormed(min_words=10, max_words=40))


def test_the_funnel_begins_and_ends_where_the_paper_gives_its_numbers(curation):
    table = curated.funnel(curation).set_index("step")
    assert table["pictures left"].to_dict() == {
        "generated": 3,
        "after repair": 3,
        "after hard-coded rules": 2,
        "after the critic": 2,
        "after selection": 1,
    }
    assert table["pictures left, paper"].tolist() == [5000, "-", "-", "-", 3500]


def test_a_dropped_picture_names_the_step_and_the_reason(curation):
    shown = [curated.why_dropped(one) for one in curation.dropped]
    assert shown == ["[hard-coded rules: sorry] I am sorry.", "[selection: too short] A bus."]
    assert curated.reasons(curation)[["dropped by", "why", "pictures"]].to_numpy().tolist() == [
        ["hard-coded rules", "sorry", 1],
        ["selection", "too short", 1],
    ]


def test_the_numbers_of_a_curation(curation):
    study = SimpleNamespace(profile=MINI, pictures=lambda name: "drawn scenes")
    found = curated.counts(study, curation)
    assert dict(zip(names(found), found["value"], strict=True)) == {
        "curate.generated": 3,
        "curate.continued": 0,
        "curate.kept": 1,
        "curate.kept_share": 1 / 3,
        "curate.words.generated": (21 + 3 + 2) / 3,
        "curate.words.kept": 20,
    }
    assert curated.before_after(curation).iloc[0].tolist() == ["0", f"{GOOD} and", GOOD]
