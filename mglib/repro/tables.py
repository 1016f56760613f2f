"""Tables of estimates, one row a model, under the names that readers see: each cell is a number with the
paper's value beside it.
"""

from collections.abc import Iterable, Mapping

import pandas

from mglib.metrics import Counts, Estimate
from mglib.paper import PAPER, QUOTED, is_quoted
from mglib.repro import claims
from mglib.repro.report import Report, Rows, numbers, rounded
from mglib.study import display_names


def estimates(counted: Mapping[str, Mapping[str, Counts]], *measures: str) -> dict[str, dict]:
    """Estimate what was counted: these measures of each row, or all."""
    return {
        row: {what: one.estimate() for what, one in some.items() if not measures or what in measures}
        for row, some in counted.items()
    }


def quoted(*measures: str) -> dict[str, dict[str, None]]:
    """Return rows for the models that the paper compares with and that are not run here."""
    return {name: dict.fromkeys(measures) for name in sorted(QUOTED)}


def by_measure(rows: Rows, *measures: str) -> dict[str, dict[str, Estimate | None]]:
    """Turn a table over: measure -> row -> estimate, of these measures or all."""
    names = measures or dict.fromkeys(measure for some in rows.values() for measure in some)
    return {name: {row: some[name] for row, some in rows.items() if name in some} for name in names}


def pairs(rows: Rows, x: str, y: str) -> dict[str, tuple[Estimate, Estimate]]:
    """Return the rows that have both measures, as points for a logarithmic x: its interval is above zero."""
    return {row: (some[x], some[y]) for row, some in rows.items() if some[x] and some[y] and some[x].low > 0}


def paper(prefix: str) -> dict[str, float]:
    """Return the paper's numbers right below a prefix, by what is left of their names."""
    parts = {name.rpartition("."): value for name, value in PAPER.items()}
    return {row: value for (above, _, row), value in parts.items() if above == prefix}


def paper_pairs(names: Iterable[str], x: str, y: str, *, prefix: str) -> dict[str, tuple[float, float]]:
    """Return the paper's points for these rows."""
    return {name: (PAPER[f"{prefix}.{x}.{name}"], PAPER[f"{prefix}.{y}.{name}"]) for name in names}


def publish(
    report: Report,
    table: str,
    rows: Rows,
    *,
    prefix: str,
    note: str,
    remarks: Mapping[str, str] | None = None,
) -> None:
    """Report each cell as a number (`Report.rows`) and the table itself."""
    report.rows(rows, prefix=prefix, note=note, remarks=remarks)
    report.table(table, readable(rows, prefix=prefix))


def verdicts(report: Report) -> None:
    """Report what the numbers of a run's notebooks so far say of the paper's claims, and the table."""
    entries = numbers(report.folder)
    for name, verdict in claims.judge(entries).items():
        report.verdict(
            f"claim.{name}", verdict.value, note=f"{claims.WORDS[verdict.value]}: {verdict.differences}"
        )
    report.table("claims", claims.table(entries))


def readable(rows: Rows, *, prefix: str) -> pandas.DataFrame:
    """Write a line for each row: value, interval and, in brackets, the paper's value; n is the pictures."""
    lines = []
    for row, estimates in rows.items():
        cells = {
            display_names.column(measure): cell(estimate, PAPER.get(f"{prefix}.{measure}.{row}"))
            for measure, estimate in estimates.items()
        }
        counted = {str(estimate.n) for estimate in estimates.values() if estimate}
        quoted = any(is_quoted(f"{prefix}.{measure}.{row}") for measure in estimates)
        n = "quoted" if quoted else ", ".join(sorted(counted, key=int))
        lines.append({"": display_names.of(row), **cells, "n": n or "-"})
    return pandas.DataFrame(lines).fillna("-")


def listed(rows: Rows, *, of: str) -> pandas.DataFrame:
    """Write a line for each row, which `of` heads, each value with its interval."""
    return pandas.DataFrame(
        [
            {
                of: display_names.of(row),
                **{display_names.column(measure): cell(one) for measure, one in estimates.items()},
            }
            for row, estimates in rows.items()
        ]
    )


def values(rows: Rows, *, prefix: str) -> pandas.DataFrame:
    """Write a line for each row: plain values, the paper's in a column beside where it has some."""
    lines = []
    for row, estimates in rows.items():
        line = {"row": display_names.of(row)}
        for measure, estimate in estimates.items():
            line[display_names.column(measure)] = estimate and estimate.value
            if (theirs := PAPER.get(f"{prefix}.{measure}.{row}")) is not None:
                line[f"{display_names.column(measure)}, paper"] = theirs
        lines.append(line)
    return pandas.DataFrame(lines)


def cell(estimate: Estimate | None, paper: float | None = None) -> str:
    """Write an estimate with its interval and the paper's value."""
    ours = "-"
    if estimate is not None:
        ours = f"{rounded(estimate.value)} [{rounded(estimate.low)}, {rounded(estimate.high)}]"
    return ours if paper is None else f"{ours} (paper {rounded(paper)})"
