"""People's verdicts: what is read, what is refused, and agreement by examples from the literature."""

import pandas
import pytest

from mglib.evals.ratings import COLUMNS, agreement, met, read_ratings
from mglib.world.scene import Scene

SYSTEMS = ("blip2", "minigpt4")
SHOWN = {"memes": [Scene(number, 256, "lake", kind="memes") for number in (7, 8)]}
LINES = ["7,minigpt4,memes,ann,1", "000000000007,minigpt4,memes,bob,0", "8,minigpt4,memes,ann,1"]


def read(tmp_path, lines, head="picture,system,task,rater,met"):
    file = tmp_path / "mini.csv"
    file.write_text("\n".join([head, *lines, ""]))
    return read_ratings(file, SYSTEMS, SHOWN)


def rated(*people):
    """Return a table of each person's ratings of the same answers, given as digits, "." for none."""
    return pandas.DataFrame(
        [
            (number, "minigpt4", "memes", rater, int(said))
            for rater, every in enumerate(people)
            for number, said in enumerate(every)
            if said != "."
        ],
        columns=COLUMNS,
    )


def test_a_picture_counts_by_the_share_of_its_raters(tmp_path):
    found = met(read(tmp_path, LINES))
    assert list(found["measure"]) == ["memes", "total"] and set(found["system"]) == {"minigpt4"}
    assert set(found["value"]) == {0.75} and set(found["n"]) == {2}


def test_where_nobody_has_rated_there_is_nothing(tmp_path):
    assert read_ratings(tmp_path / "none.csv", SYSTEMS, SHOWN) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("8,blip2,memes,ann,yes", "line 5: `met` is neither 0 nor 1"),
        ("9,blip2,memes,ann,1", "line 5: no such system was asked this about this picture"),
        ("8,BLIP-2,memes,ann,1", "line 5: no such system"),
        ("8,blip2,poems,ann,1", "line 5: no such system"),
        ("8,minigpt4,memes,ann,0", "line 5: this rater has rated this answer before"),
    ],
)
def test_a_line_that_rates_no_answer_is_named(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, [*LINES, line])


def test_other_columns_are_refused(tmp_path):
    with pytest.raises(ValueError, match="give it picture, system, task, rater, met"):
        read(tmp_path, [], head="picture,system,met")


def test_agreement_is_krippendorffs_alpha():
    # Two observers: o01 = 4, n0 = 14, n1 = 6, n = 20: 1 - 19 * 4 / (14 * 6).
    assert agreement(rated("0100000010", "1110010000")) == pytest.approx(1 - 76 / 84)
    # Krippendorff 2011, section C: four observers with gaps.
    four = rated("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
    assert agreement(four) == pytest.approx(0.743, abs=5e-4)
    assert agreement(rated("10", "01")) == pytest.approx(-0.5)


def test_there_is_no_agreement_without_two_raters_and_two_verdicts():
    assert agreement(rated("01")) is None and agreement(rated("11", "11")) is None
    assert agreement(rated("0.", ".1")) is None and agreement(rated("01", "01")) == 1
