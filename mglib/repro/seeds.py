"""Several trainings of one run: their spread, and intervals over pictures and seeds together."""

from collections.abc import Callable, Sequence

import numpy
import pandas

from mglib import frame

STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # its 0.975 quantiles, by freedom
REACH = 1.96 * 2**0.5  # in sd: the 95 % range of the difference of two trainings that differ only in seed


def spread(own: pandas.DataFrame, others: Sequence[pandas.DataFrame]) -> pandas.DataFrame:
    """Add to each number with an interval its standard deviation over trainings, this run's and `others`, and
    widen the interval by it, so that it holds another training's number in 19 of 20 cases.

    Both sources are taken as normal and independent: the half-width over pictures and REACH deviations add in
    quadrature. A number that is the same in all runs, for instance because nothing was trained, stays as it
    is, and so do all numbers of a run without others.
    """
    return _widened(own, others, lambda values: (values.iloc[:, 0], values.std(axis=1)))


def mean(own: pandas.DataFrame, others: Sequence[pandas.DataFrame]) -> pandas.DataFrame:
    """Return the numbers with the mean over trainings in place of each value that differs between them.

    Its interval joins Student's over trainings with the half-width over pictures, which all trainings share.
    """

    def about(values: pandas.DataFrame) -> tuple[pandas.Series, pandas.Series]:
        count = values.count(axis=1)
        quantile = count.map(lambda runs: STUDENT[min(runs - 1, len(STUDENT)) - 1])
        return values.mean(axis=1), quantile * values.std(axis=1) / count**0.5 / REACH

    return _widened(own, others, about)


def _widened(
    own: pandas.DataFrame,
    others: Sequence[pandas.DataFrame],
    about: Callable[[pandas.DataFrame], tuple[pandas.Series, pandas.Series]],
) -> pandas.DataFrame:
    """Return the numbers around the centre, and widened by REACH times the deviation, that `about` gives for
    their values in all runs, one column per run.
    """
    found, values = own.reset_index(drop=True), _of(own, own, *others)
    differ = found["low"].notna() & (values.nunique(axis=1) > 1)  # the sd of equal values may be 1e-17
    centre, deviation = about(values[differ])
    value, low, high = (found.loc[differ, end].astype(float) for end in ("value", "low", "high"))
    reach, share = REACH * deviation, found.loc[differ, "share"].eq(True)
    low, high = centre - numpy.hypot(value - low, reach), centre + numpy.hypot(high - value, reach)
    found.loc[differ, "value"] = centre
    found.loc[differ, "low"] = low.where(~share, low.clip(lower=0))
    found.loc[differ, "high"] = high.where(~share, high.clip(upper=1))
    found.loc[differ, "seeds"], found.loc[differ, "seed_sd"] = values[differ].count(axis=1), deviation
    return found


def inside(runs: Sequence[pandas.DataFrame]) -> pandas.DataFrame:
    """Return the share of a held-out run's numbers that lie inside the intervals of the others, each run held
    out in turn: intervals over pictures and seeds (`inside`), and over pictures alone (`inside_pictures`).
    Numbers that are the same in all runs do not count; no row for fewer than three runs.
    """
    counted: dict[str, list[pandas.Series]] = {"inside": [], "inside_pictures": []}
    for place in range(len(runs) if len(runs) > 2 else 0):
        further, (first, *rest) = runs[place], [run for other, run in enumerate(runs) if other != place]
        values = _of(first, first, *rest, further)
        changed = first["low"].notna().reset_index(drop=True) & (values.nunique(axis=1) > 1)
        for name, known in {"inside": spread(first, rest), "inside_pictures": first}.items():
            ends = (known[end].astype(float).reset_index(drop=True) for end in ("low", "high"))
            hit = values.iloc[:, -1].between(*ends)
            counted[name].append(hit[changed & values.iloc[:, -1].notna()])
    shares = {name: float(pandas.concat(some).mean()) for name, some in counted.items() if some}
    note = "share of a further training's numbers inside the intervals of the others"
    notes = {"inside": f"{note}, over pictures and seeds", "inside_pictures": f"{note}, over pictures alone"}
    return frame.rows("seeds", {"": shares}, note=notes)


def _of(own: pandas.DataFrame, *runs: pandas.DataFrame) -> pandas.DataFrame:
    """Return the values of a run's numbers in each of the runs, one column per run."""
    values = [run.set_index("name")["value"].astype(float).reindex(own["name"]) for run in runs]
    return pandas.concat(values, axis=1).reset_index(drop=True)
