"""What a notebook publishes: numbers, tables and figures, with one call each.

No other code writes a number of a run.
"""

import io
import json
import math
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas
import seaborn
from IPython.display import HTML, display
from IPython.display import Image as Picture
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from mglib import frame
from mglib.paper import PAPER
from mglib.paths import RUNS, write_json, write_text
from mglib.repro import figures
from mglib.settings import Settings
from mglib.study import display_names

NUMBER_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
FILE_NAME = re.compile(r"[a-z0-9_]+")
# A number's name, the tidy frame's columns, trainings and their sd, the paper's value, the notebook.
FIELDS = ("name", *frame.COLUMNS, "seeds", "seed_sd", "paper", "notebook")
INK = {"axes.edgecolor": "0.4", "figure.facecolor": "white", "savefig.facecolor": "white"}


class Report:
    """The results of one notebook, under runs/; creating one deletes those of an earlier run."""

    def __init__(self, settings: Settings, *, notebook: str, runs: Path = RUNS):
        self.notebook = notebook
        self.folder = runs / settings.folder_name
        self._numbers = pandas.DataFrame(columns=FIELDS)
        for kind in ("figures", "tables"):
            shutil.rmtree(self.folder / kind / notebook, ignore_errors=True)
        self._write()
        style()

    def add(self, found: pandas.DataFrame) -> None:
        """Keep each row of a tidy frame as a number, with the paper's value of that name.

        Raises ValueError for a value that is not finite, half an interval, or a malformed or taken name.
        """
        names = frame.names(found)
        for name, row in zip(names, found.to_dict("records"), strict=True):
            check(name, row)
        taken = pandas.Index([*self._numbers["name"], *names])
        if taken.has_duplicates:
            name = taken[taken.duplicated()][0]
            raise ValueError(f"{name} was reported twice; to run cells again, make the Report again first.")
        paper = [PAPER.get(name) for name in names]
        known = {"name": names, "seeds": found["value"].notna().astype(int), "seed_sd": None, "paper": paper}
        new = found.assign(**known, notebook=self.notebook)[list(FIELDS)]
        self._numbers = pandas.concat([self._numbers.astype(object), new.astype(object)], ignore_index=True)
        self._write()

    def results(self, name: str, found: pandas.DataFrame, **how: Any) -> None:
        """Keep the numbers of a tidy frame, and save and show them as a table (`pivot`)."""
        self.add(found)
        self.table(name, found, **how)

    def so_far(self) -> pandas.DataFrame:
        """Return the numbers of all notebooks of this run that have reported."""
        return numbers(self.folder)

    def absent(self, prefix: str, *, reason: str) -> None:
        """Report as not applicable the paper's numbers below a prefix that have not been reported."""
        reported = {*self._numbers["name"]}
        for name in PAPER:
            if name.startswith(f"{prefix}.") and name not in reported:
                task, measure = name.split(".", 1)
                self.add(frame.absent(task, measure, reason))

    def table(self, name: str, table: pandas.DataFrame | None, **how: Any) -> None:
        """Save a table as CSV and as Markdown, and show it with display names; for None, print that there is
        none. An index that only counts rows is dropped; a tidy frame is laid out by `pivot`.
        """
        if table is None:
            print(f"{name}: no table under this profile")
            return
        if not isinstance(table.index, pandas.RangeIndex):
            table = table.reset_index()
        tidy = set(frame.COLUMNS) <= set(table)
        table = pivot(table, **how) if tidy else display_names.table(table)
        table.to_csv(self._path("tables", name, ".csv"), index=False)
        write_text(self._path("tables", name, ".md"), markdown(table))
        display(HTML(table.to_html(index=False, na_rep="-", float_format=rounded)))

    def figure(self, name: str, fig: Figure | None) -> None:
        """Save a figure as a 150-dpi PNG, show it in 64 colours and close it; for None, print a note."""
        if fig is None:
            print(f"{name}: nothing to draw under this profile")
            return
        path = self._path("figures", name, ".png")
        fig.savefig(path, dpi=150, bbox_inches="tight", metadata={"Software": None})
        drawn, shown = io.BytesIO(), io.BytesIO()
        fig.savefig(drawn, dpi=100, bbox_inches="tight")
        pyplot.close(fig)  # or the notebook's backend shows it a second time
        Image.open(drawn).convert("RGB").quantize(64).save(shown, "PNG", optimize=True)
        display(Picture(data=shown.getvalue(), format="png"))

    def forest(self, name: str, found: pandas.DataFrame, **how: Any) -> None:
        """Save and show the numbers of a tidy frame by `figures.forest`."""
        self.figure(name, figures.forest(found, **how))

    def sheet(self, name: str, image: Image.Image | None) -> None:
        """Save a sheet of pictures as JPEG and show it; for None, print a note."""
        if image is None:
            print(f"{name}: no picture of this kind under this profile")
            return
        path = self._path("figures", name, ".jpg")
        image.convert("RGB").save(path, quality=85, optimize=True)
        display(Picture(data=path.read_bytes(), format="jpeg"))

    def _write(self) -> None:
        write_json(self.folder / "numbers" / f"{self.notebook}.json", records(self._numbers))

    def _path(self, kind: str, name: str, suffix: str) -> Path:
        if not FILE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an artefact: use lower case, digits and underscores.")
        path = self.folder / kind / self.notebook / f"{name}{suffix}"
        if path.exists():
            raise ValueError(
                f"{path.name} was reported twice; to run cells again, make the Report again first."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def style() -> None:
    """Give every figure the same look: readable sizes and a colour-blind-safe palette."""
    seaborn.set_theme(context="notebook", style="whitegrid", palette="colorblind", rc=INK)


def check(name: str, row: Mapping[str, Any]) -> None:
    """Raise ValueError for a number with a malformed name, an infinite value or half an interval."""
    if not NUMBER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a number: use lower case and dots, as in `stage1.loss`.")
    known = {what: row[what] for what in ("value", "low", "high") if not pandas.isna(row[what])}
    for what, figure in known.items():
        if not math.isfinite(figure):
            raise ValueError(f"{name}: its {what} is {figure}, and only finite numbers are kept.")
    if ("low" in known) != ("high" in known) or ("low" in known and known["low"] > known["high"]):
        raise ValueError(f"{name}: an interval needs both ends in order, not {row['low']} and {row['high']}.")


# --- Numbers on disk ---


def records(numbers: pandas.DataFrame) -> list[dict[str, Any]]:
    """Return numbers as written to JSON: null for missing values, integers for counts of pictures."""
    whole = numbers.astype({"n": "Int64"}).astype(object)
    return whole.where(whole.notna(), None).to_dict("records")


def read(path: Path) -> pandas.DataFrame:
    """Read numbers from a file; an empty frame if it does not exist."""
    entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return pandas.DataFrame(entries, columns=FIELDS)


def numbers(folder: Path) -> pandas.DataFrame:
    """Return the numbers of a run's notebooks in their order; raises ValueError when two share a name."""
    files = sorted((folder / "numbers").glob("*.json"))
    found = pandas.concat([pandas.DataFrame(columns=FIELDS), *map(read, files)], ignore_index=True)
    for name, same in found[found["name"].duplicated(keep=False)].groupby("name"):
        raise ValueError(f"{name} is reported by {' and '.join(same['notebook'])}: rename one.")
    return found


# --- Numbers for readers ---


def rounded(value: float | None) -> str:
    """Format a number for readers: three significant digits, thousands whole, a dash for none."""
    if value is None or pandas.isna(value):
        return "-"
    if abs(value) < 1e-6:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def interval(number: Mapping[str, Any], paper: float | None = None) -> str:
    """Format a number with its 95 % interval, if it has one, and the paper's value, if given."""
    ours = rounded(number["value"])
    if not pandas.isna(number["low"]):
        ours += f" [{rounded(number['low'])}, {rounded(number['high'])}]"
    return ours if paper is None else f"{ours} (paper {rounded(paper)})"


def pivot(
    found: pandas.DataFrame,
    *,
    rows: str | Sequence[str] = "system",
    columns: str = "measure",
    names: Mapping[str, str] | None = None,
) -> pandas.DataFrame:
    """Lay a tidy frame out for readers: a number with its interval and the paper's value in each cell.

    There is a row for each value of the columns `rows`, labelled by `names` or its display name; n, the
    number of pictures, comes last.
    """
    by = [rows] if isinstance(rows, str) else list(rows)
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    counts: dict[tuple[str, ...], list[str]] = {}
    for name, row in zip(frame.names(found), found.to_dict("records"), strict=True):
        key = tuple(row[column] for column in by)
        first = {"": ", ".join(filter(None, (display_names.of(part, names) for part in key)))}
        cell = interval(row, PAPER.get(name))
        lines.setdefault(key, first)[display_names.column(row[columns], names)] = cell
        if not pandas.isna(row["n"]):
            counts.setdefault(key, []).append(f"{row['n']:.0f}")
    for key, line in lines.items():
        line["n"] = ", ".join(dict.fromkeys(counts.get(key, ["-"])))
    table = pandas.DataFrame(list(lines.values())).fillna("-")
    return table[[*(column for column in table if column != "n"), "n"]] if len(table) else table


def markdown(table: pandas.DataFrame) -> str:
    """Return a table as Markdown, with a dash for missing numbers.

    pandas' own pads every cell to the widest one, which makes the README unreadable as text.
    """

    def line(cells: Iterable[object]) -> str:
        texts = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
        texts = ["-" if text == "nan" else text.replace("|", "\\|").replace("\n", " ") for text in texts]
        return f"| {' | '.join(texts)} |\n"

    rule = "|" + " --- |" * len(table.columns) + "\n"
    return line(table.columns) + rule + "".join(map(line, table.itertuples(index=False)))
