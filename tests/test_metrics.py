"""The measures, each worked out by hand on captions short enough to check."""

import random

import pytest

from mglib.metrics import (
    Counts,
    columns,
    derangement,
    distinct,
    each,
    holm,
    needed_for,
    paired,
    rarest,
    unpaired,
    words,
)


def mean(values):
    return each(values).estimate()


def test_an_estimate_makes_four_columns_that_may_be_empty():
    found = columns("loss", mean([2.0, 2.0]))
    assert found == {"loss": 2.0, "low": 2.0, "high": 2.0, "n": 2}
    assert list(columns("loss", None)) == list(found) and columns("x", None)["x"] is None


def test_a_hyphen_separates_words():
    assert words("A well-lit T-junction, 2 o'clock")[:4] == ["a", "well", "lit", "t"]


# --- intervals ---


@pytest.mark.parametrize("n", [5, 30, 200])
def test_a_ratio_is_pooled_and_lies_in_its_interval(n):
    source = random.Random(0)
    below = [source.randint(1, 6) for _ in range(n)]
    above = [source.randint(0, most) for most in below]
    estimate = Counts(above, below).estimate()
    assert estimate.value == pytest.approx(sum(above) / sum(below)) and estimate.n == n
    assert 0 <= estimate.low < estimate.value < estimate.high <= 1
    assert estimate == Counts(above, below).estimate()


def test_the_interval_is_that_of_the_normal_approximation_for_many_pictures():
    estimate = mean([1.0] * 300 + [0.0] * 700)
    assert estimate.low == pytest.approx(0.3 - 1.96 * (0.21 / 1000) ** 0.5, abs=3e-3)
    assert estimate.high == pytest.approx(0.3 + 1.96 * (0.21 / 1000) ** 0.5, abs=3e-3)


def test_pictures_are_drawn_whole():
    """Forty mentions in five pictures leave more doubt than one mention in each of forty."""
    spread = Counts([1, 0] * 20, [1, 1] * 20).estimate()
    lumped = Counts([20, *[0] * 4], [20, *[5] * 4]).estimate()
    assert lumped.high - lumped.low > 2 * (spread.high - spread.low)


def test_where_nothing_was_counted_there_is_no_ratio():
    assert Counts([0, 0], [0, 0]).estimate() is None and mean([]) is None


# --- at the ends ---


def test_none_of_a_hundred_and_all_of_them_have_the_interval_of_clopper_and_pearson():
    none, every = mean([0.0] * 100), mean([1.0] * 100)
    assert (none.low, none.high) == (0, pytest.approx(0.0362, abs=5e-5))
    assert (every.low, every.high) == (pytest.approx(0.9638, abs=5e-5), 1)
    two = Counts([0] * 4, [3, 0, 2, 0]).estimate()  # only two pictures count
    assert two.high == pytest.approx(0.8419, abs=1e-4)
    assert mean([1.0, 1.0, 0.0]).high == 1
    half = Counts([1] * 100, [2] * 100).estimate()  # one of two questions in every picture
    assert (half.low, half.high) == (pytest.approx(0.4638, abs=5e-5), pytest.approx(0.5362, abs=5e-5))


def test_a_mean_of_more_than_a_share_has_no_such_end():
    assert mean([2.0] * 9).low == 2 and mean([1.0, 2.0] * 9).low > 1


def test_where_no_picture_tells_two_shares_apart_some_unseen_one_may():
    same = paired(each([0.0] * 100), each([0.0] * 100))
    assert (same.low, same.high) == (pytest.approx(-0.0362, abs=5e-5), pytest.approx(0.0362, abs=5e-5))
    assert paired(each([1.0, 0.0]), each([1.0, 0.0])).high == pytest.approx(0.8419, abs=1e-4)
    assert paired(each([2.0, 0.0]), each([2.0, 0.0])).high == pytest.approx(2 * 0.8419, abs=1e-4)
    longer = paired(each([9.0] * 9), each([7.0] * 9))
    assert longer.low == longer.high == 2


# --- many tests, and how many pictures ---


def test_the_smallest_p_value_counts_once_for_each_test_and_the_order_stays():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.6]) == [1, 1] and holm([]) == []


def test_half_the_effect_takes_four_times_the_pictures():
    assert needed_for(0.1, 0.5) == 197  # (1.96 + 0.8416)^2 * 0.25 / 0.01: a share of one half
    assert needed_for(0.05, 0.5) == 785 and needed_for(0.1, 0.0) == 1


# --- variety ---


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        ("a dog and a cat", 1, 4 / 5),
        ("A dog, a DOG, a dog.", 2, 2 / 5),
        ("a dog", 3, 1),
        ("", 1, 1),
    ],
)
def test_distinct_is_the_share_of_different_runs(text, n, expected):
    assert distinct(text, n) == pytest.approx(expected)


# --- the shuffled-picture control ---


def test_a_derangement_moves_everything_and_loses_nothing():
    for n in range(2, 51):
        order = derangement(n)
        assert sorted(order) == list(range(n)) and all(place != item for place, item in enumerate(order))
    assert derangement(20, seed=3) == derangement(20, seed=3) != derangement(20, seed=4)


# --- differences ---


def test_a_paired_difference_is_that_of_the_ratios():
    first, second = Counts([1, 2, 3], [2, 2, 4]), Counts([0, 1, 1], [1, 2, 1])
    estimate = paired(first, second)
    assert estimate.value == pytest.approx(6 / 8 - 2 / 4) and estimate.n == 3
    assert estimate.low <= estimate.value <= estimate.high


def test_pictures_that_are_hard_for_both_leave_no_doubt():
    source = random.Random(0)
    hard = [source.random() for _ in range(100)]
    better = [value + 0.1 for value in hard]
    difference, alone = paired(each(better), each(hard)), mean(better)
    assert difference.high - difference.low < 1e-6 and alone.high - alone.low > 0.05


def test_a_difference_needs_the_same_pictures_and_something_counted():
    with pytest.raises(ValueError, match="same pictures"):
        paired(each([1.0]), each([1.0, 2.0]))
    assert paired(each([1.0]), Counts([0], [0])) is None and unpaired(each([1.0]), each([])) is None


def test_an_unpaired_difference_has_the_spread_of_both():
    one = each([0.0, 1.0] * 50)
    found, alone = unpaired(one, each([1.0] * 80)), one.estimate()
    assert found.value == -0.5 and found.n == 100
    assert found.high - found.low == pytest.approx(alone.high - alone.low, abs=0.02)


def test_a_group_less_itself_drawn_apart_is_not_surely_nothing():
    group = each([0.0, 1.0] * 20)
    assert paired(group, group).high == pytest.approx(rarest(40))
    assert unpaired(group, group).low < 0 < unpaired(group, group).high
