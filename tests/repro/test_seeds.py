"""Intervals over pictures and seeds: worked out by hand, and checked against simulated trainings."""

import numpy
import pandas
import pytest

from mglib import frame
from mglib.metrics import Counts, Estimate
from mglib.repro.seeds import REACH, inside, mean, spread


def run(**values):
    """Return a run's numbers, each with an interval of 0.1 to both sides."""
    rows = {"": {name: Estimate(value, value - 0.1, value + 0.1, 9) for name, value in values.items()}}
    found = frame.rows("x", rows)
    return found.assign(name=frame.names(found), seeds=1, seed_sd=None)


def test_an_interval_grows_by_the_spread_over_trainings_and_stays_where_nothing_was_trained():
    found = spread(run(a=0.5, b=0.1), [run(a=0.7, b=0.1), run(a=0.6, b=0.1)]).set_index("name")
    reach = (0.1**2 + (REACH * 0.1) ** 2) ** 0.5
    assert found.loc["x.a", ["low", "high"]].tolist() == pytest.approx([0.5 - reach, 0.5 + reach])
    assert found.loc["x.a", ["seeds", "seed_sd"]].tolist() == [3, pytest.approx(0.1)]
    assert found.loc["x.b", ["low", "high", "seeds"]].tolist() == pytest.approx([0, 0.2, 1])
    assert pandas.isna(found.loc["x.b", "seed_sd"])


def test_the_mean_has_students_interval_over_trainings():
    others = [run(a=0.7, b=0.1), run(a=0.6, b=0.1)]
    found = mean(run(a=0.5, b=0.1), others).set_index("name")
    reach = (0.1**2 + (4.303 * 0.1 / 3**0.5) ** 2) ** 0.5
    assert found.loc["x.a", ["value", "low", "high"]].tolist() == pytest.approx(
        [0.6, 0.6 - reach, 0.6 + reach]
    )
    assert found.loc["x.b", ["value", "low", "high"]].tolist() == pytest.approx([0.1, 0, 0.2])


def test_a_run_alone_has_intervals_over_pictures_alone():
    found = spread(run(a=0.5), [])
    assert found[["low", "high", "seeds"]].values.tolist() == [[pytest.approx(0.4), pytest.approx(0.6), 1]]
    assert found["seed_sd"].isna().all()


def test_a_share_stays_between_0_and_1_and_a_difference_need_not():
    shares = frame.rows("x", {"": {"a": Counts([0, 0, 1], [1, 1, 1]), "b": Estimate(0.1, 0.05, 0.2, 3)}})
    one = shares.assign(name=frame.names(shares), seeds=1, seed_sd=None)
    other = one.assign(value=one["value"] + 0.5)
    found = spread(one, [other])
    assert (found["low"][0], found["high"][0]) == (0, 1) and found["low"][1] < 0


def test_numbers_without_an_interval_have_no_spread():
    speed = frame.rows("x", {"": {"a": 3.0}})
    one = speed.assign(name=frame.names(speed), seeds=1, seed_sd=None)
    assert spread(one, [one.assign(value=9.0)])["seed_sd"].isna().all()


def test_another_seed_lies_inside_nineteen_times_in_twenty():
    """Trainings differ a little more than the intervals over pictures suggest, as the published ones did."""
    source, names = numpy.random.default_rng(0), [f"n{number}" for number in range(1500)]
    runs = [run(**dict(zip(names, source.normal(0.5, 0.0615, len(names)), strict=True))) for _ in range(4)]
    found = inside(runs).set_index("measure")["value"]
    assert found["inside"] == pytest.approx(0.95, abs=0.02)
    assert found["inside_pictures"] == pytest.approx(0.75, abs=0.02)
    assert inside(runs[:2]).empty


def test_what_no_training_changes_does_not_count_as_inside():
    runs = [run(a=value, b=0.5) for value in (0.1, 0.9, 5.0)]
    assert inside(runs).set_index("measure")["value"]["inside_pictures"] == 0
