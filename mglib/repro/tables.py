"""Tables of estimates, one row a model: each cell is a number with the paper's value beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas

from mglib.metrics import Counts, Estimate
from mglib.repro.paper import PAPER, is_quoted
from mglib.repro.report import Report, rounded

Rows = Mapping[str, Mapping[str, Estimate | None]]  # row -> measure -> estimate


def estimates(counted: Mapping[str, Mapping[str, Counts]], *measures: str) -> dict[str, dict]:
    """Estimate what was counted: these measures of each row, or all."""
    return {
        row: {what: one.estimate() for what, one in some.items() if not measures or what in measures}
        for row, some in counted.items()
    }


def best(tried: Sequence[Mapping[str, Any]], measure: str) -> dict[str, Mapping[str, Any]]:
    """Return for each model the line of the choices tried with the highest `measure`; the first of equals."""
    found: dict[str, Mapping[str, Any]] = {}
    for line in tried:
        if line["model"] not in found or line[measure] > found[line["model"]][measure]:
            found[line["model"]] = line
    return found


def publish(
    report: Report,
    table: str,
    rows: Rows,
    *,
    prefix: str,
    note: str,
    remarks: Mapping[str, str] | None = None,
) -> None:
    """Report `prefix.measure.row` for each cell, with the paper's value of that name, and the table itself.

    `note` goes with every number, what `remarks` says of a row with those of that row. A row of a model that
    the paper compares with and that is not run here is quoted and marked so.
    """
    for row, estimates in rows.items():
        more = (remarks or {}).get(row)
        for measure, estimate in estimates.items():
            name = f"{prefix}.{measure}.{row}"
            if is_quoted(name):
                report.not_applicable(name, reason="quoted from the paper, not run here", paper=PAPER[name])
            else:
                about = f"{note}; {more}" if more else note
                report.estimate(name, estimate, paper=PAPER.get(name), note=about)
    report.table(table, readable(rows, prefix=prefix))


def readable(rows: Rows, *, prefix: str) -> pandas.DataFrame:
    """Write a line for each row: value, interval and, in brackets, the paper's value; n is the pictures."""
    lines = []
    for row, estimates in rows.items():
        cells = {
            measure: cell(estimate, PAPER.get(f"{prefix}.{measure}.{row}"))
            for measure, estimate in estimates.items()
        }
        counted = {str(estimate.n) for estimate in estimates.values() if estimate}
        quoted = any(is_quoted(f"{prefix}.{measure}.{row}") for measure in estimates)
        n = "quoted" if quoted else ", ".join(sorted(counted, key=int))
        lines.append({"": row, **cells, "n": n or "-"})
    return pandas.DataFrame(lines).fillna("-")


def listed(rows: Rows, *, of: str) -> pandas.DataFrame:
    """Write a line for each row, which `of` heads, each value with its interval."""
    return pandas.DataFrame(
        [
            {of: row, **{measure: cell(one) for measure, one in estimates.items()}}
            for row, estimates in rows.items()
        ]
    )


def cell(estimate: Estimate | None, paper: float | None = None) -> str:
    """Write an estimate with its interval and the paper's value."""
    ours = "-"
    if estimate is not None:
        ours = f"{rounded(estimate.value)} [{rounded(estimate.low)}, {rounded(estimate.high)}]"
    return ours if paper is None else f"{ours} (paper {rounded(paper)})"
