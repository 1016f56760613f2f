"""The tidy frame: one row per number, its name, and its note if nothing was counted."""

import pandas

from mglib import frame
from mglib.metrics import Counts, Estimate

HALF = Estimate(0.5, 0.25, 0.75, 8)


def test_each_measure_of_each_system_is_a_row():
    counted = {
        "long": {"chair_i": Counts([1, 0], [1, 1]), "length": 30.0},
        "short": {"chair_i": HALF, "length": None},
    }
    found = frame.rows("t5", counted, note="drawn", remarks={"long": "greedy"}, split="test_seen")
    assert tuple(found) == frame.COLUMNS
    assert frame.names(found)[0] == "t5.chair_i.test_seen.long"
    assert list(found["value"].fillna(-1)) == [0.5, 30.0, 0.5, -1]
    assert list(found["n"].fillna(0)) == [2, 0, 8, 0]
    assert list(found["note"]) == ["drawn; greedy"] * 2 + [
        "drawn",
        "not applicable: nothing was counted; drawn",
    ]


def test_a_note_may_belong_to_its_measure():
    found = frame.rows("t8", {"10": {"words": HALF, "loss": HALF}}, note={"words": "mean", "loss": "nats"})
    assert list(found["note"]) == ["mean", "nats"] and frame.names(found) == ["t8.words.10", "t8.loss.10"]


def test_frames_are_joined_in_order_and_may_be_empty():
    one, none = frame.rows("t5", {"long": {"chair_i": HALF}}), frame.rows("t5", {})
    lacking = frame.absent("t2", "covered", "real captions come without facts")
    both = frame.concat(none, one, lacking)
    assert frame.names(both) == ["t5.chair_i.long", "t2.covered"] and pandas.isna(both["value"][1])
    assert both["note"][1] == "not applicable: real captions come without facts"
    assert frame.concat(none).empty and tuple(frame.concat()) == frame.COLUMNS


def test_differences_are_paired_and_need_both_systems():
    counted = {"long": {"chair_i": Counts([1, 1], [1, 1])}, "short": {"chair_i": Counts([0, 1], [1, 1])}}
    found = frame.differences(counted, {"less": ("long", "short"), "over_blip2": ("long", "blip2")})
    assert found.keys() == {"less"} and found["less"]["chair_i"].value == 0.5
