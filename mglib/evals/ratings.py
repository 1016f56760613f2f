"""People's verdicts on the answers of Table 1: one CSV per run (data/README.md, "People's verdicts")."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import krippendorff
import pandas

from mglib import frame
from mglib.metrics import each
from mglib.paths import ROOT
from mglib.world.scene import Scene

FOLDER = ROOT / "data" / "ratings"
COLUMNS = ["picture", "system", "task", "rater", "met"]


def read_ratings(
    file: Path, systems: Sequence[str], shown: Mapping[str, Sequence[Scene]]
) -> pandas.DataFrame | None:
    """Read which answers each rater found to meet the request; None if nobody has rated.

    `systems` were asked about the pictures `shown` for each task. Raises ValueError for wrong columns, a
    verdict that is neither 0 nor 1, an answer that no system gave, and an answer that one rater rated twice.
    """
    if not file.exists():
        return None
    ratings = pandas.read_csv(file, dtype=str, skipinitialspace=True)
    if sorted(ratings.columns) != sorted(COLUMNS):
        raise ValueError(
            f"{file} has the columns {', '.join(ratings.columns)}: give it {', '.join(COLUMNS)}."
        )
    ratings["picture"] = pandas.to_numeric(ratings["picture"], errors="coerce")
    answers = {
        (one.image_id, system, task) for task, some in shown.items() for one in some for system in systems
    }
    rated = list(ratings[["picture", "system", "task"]].itertuples(index=False, name=None))
    faults = {
        "`met` is neither 0 nor 1": ~ratings["met"].isin(["0", "1"]),
        "no such system was asked this about this picture": pandas.Series(
            [one not in answers for one in rated]
        ),
        "this rater has rated this answer before": ratings.duplicated(COLUMNS[:4]),
    }
    for fault, lines in faults.items():
        if lines.any():
            raise ValueError(f"{file}, line {lines.idxmax() + 2}: {fault}.")
    return ratings.astype({"met": int})


def met(ratings: pandas.DataFrame) -> pandas.DataFrame:
    """Return the share of raters who found a request met: by system, for each task and in `total`."""
    shares = ratings.groupby(["system", "task", "picture"], sort=False)["met"].mean()
    rows = {
        system: {
            **{task: each(one.tolist()) for task, one in some.groupby("task", sort=False)},
            "total": each(some.tolist()),
        }
        for system, some in shares.groupby("system", sort=False)
    }
    return frame.rows("t1.people", rows, note="people's verdicts")


def agreement(ratings: pandas.DataFrame) -> float | None:
    """Return Krippendorff's alpha over all answers; None if no two raters rated the same answer, or if all
    verdicts are the same, so that nothing can be compared.
    """
    answers = ratings.pivot(index=COLUMNS[:3], columns="rater", values="met").dropna(thresh=2)
    if answers.stack().nunique() < 2:
        return None
    return float(krippendorff.alpha(answers.to_numpy().T, level_of_measurement="nominal"))
