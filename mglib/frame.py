"""Results as one tidy frame, one row per number: experiments make it, tables and figures show it,
numbers.json stores it.
"""

from collections.abc import Mapping
from dataclasses import asdict

import pandas

from mglib.metrics import Counts, Estimate, paired

COLUMNS = ("task", "measure", "split", "system", "value", "low", "high", "n", "share", "note")
NAME = list(COLUMNS[:4])  # these name a number, as in `t5.chair_i.long`; empty parts are left out

Measured = Counts | Estimate | float | None


def rows(
    task: str,
    measured: Mapping[str, Mapping[str, Measured]],
    *,
    note: str | Mapping[str, str] = "",
    remarks: Mapping[str, str] | None = None,
    split: str = "",
) -> pandas.DataFrame:
    """Return a row for each measure of each system, `measured[system][measure]`.

    `note` belongs to all of them or, as a mapping, to each by its measure; `remarks`, by system, are added to
    the system's rows. If nothing was counted, the value is empty and the note says so.
    """
    lines = []
    for system, measures in measured.items():
        for measure, value in measures.items():
            about = note if isinstance(note, str) else note[measure]
            about = "; ".join(filter(None, [about, (remarks or {}).get(system)]))
            line: dict[str, object] = {"task": task, "measure": measure, "split": split, "system": system}
            share = isinstance(value, Counts) and value.is_share
            found = value.estimate() if isinstance(value, Counts) else value
            if isinstance(found, Estimate):
                line |= {**asdict(found), "share": share or None}
            elif found is not None:
                line["value"] = float(found)
            else:
                about = "; ".join(filter(None, ["not applicable: nothing was counted", about]))
            lines.append({**line, "note": about})
    return pandas.DataFrame(lines, columns=COLUMNS)


def absent(task: str, measure: str, reason: str, *, system: str = "") -> pandas.DataFrame:
    """Return a row for a number that cannot exist under this profile, with the reason."""
    line = {"task": task, "measure": measure, "split": "", "system": system}
    return pandas.DataFrame([{**line, "note": f"not applicable: {reason}"}], columns=COLUMNS)


def differences(
    counted: Mapping[str, Mapping[str, Counts]], pairs: Mapping[str, tuple[str, str]]
) -> dict[str, dict[str, Estimate | None]]:
    """Return by each pair's name the measures of its first system minus those of its second, paired over the
    same pictures; pairs with a system that was not counted are left out.
    """
    return {
        name: {what: paired(counts, counted[other][what]) for what, counts in counted[one].items()}
        for name, (one, other) in pairs.items()
        if one in counted and other in counted
    }


def concat(*frames: pandas.DataFrame) -> pandas.DataFrame:
    """Join frames in order; empty ones are left out."""
    some = [frame for frame in frames if len(frame)]
    return pandas.concat(some, ignore_index=True) if some else pandas.DataFrame(columns=COLUMNS)


def names(frame: pandas.DataFrame) -> list[str]:
    """Return the name of each row's number."""
    return [".".join(filter(None, parts)) for parts in frame[NAME].itertuples(index=False)]
