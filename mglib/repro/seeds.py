"""Several trainings of one run: their spread, and intervals over pictures and seeds together."""

from collections.abc import Sequence

import numpy
import pandas

from mglib import frame

REACH = 1.96 * 2**0.5  # in sd: the 95 % range of the difference of two trainings that differ only in seed


def spread(own: pandas.DataFrame, others: Sequence[pandas.DataFrame]) -> pandas.DataFrame:
    """Add to each number with an interval its standard deviation over trainings, this run's and `others`, and
    widen the interval by it, so that it holds another training's number in 19 of 20 cases.

    Both sources are taken as normal and independent: the half-width over pictures and REACH deviations add in
    quadrature. A number that is the same in all runs, for instance because nothing was trained, stays as it
    is, and so do all numbers of a run without others.
    """
    found, values = own.reset_index(drop=True), _of(own, own, *others)
    seeds, deviation = values.count(axis=1), values.std(axis=1)
    differ = found["low"].notna() & (values.nunique(axis=1) > 1)  # the sd of equal values may be 1e-17
    reach = REACH * deviation[differ]
    value, low, high = (found.loc[differ, end].astype(float) for end in ("value", "low", "high"))
    share = found.loc[differ, "share"].eq(True)
    low, high = value - numpy.hypot(value - low, reach), value + numpy.hypot(high - value, reach)
    found.loc[differ, "low"] = low.where(~share, low.clip(lower=0))
    found.loc[differ, "high"] = high.where(~share, high.clip(upper=1))
    found.loc[differ, "seeds"], found.loc[differ, "seed_sd"] = seeds[differ], deviation[differ]
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
