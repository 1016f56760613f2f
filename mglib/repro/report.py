"""What a notebook publishes: numbers, figures and tables, in one manner and with one call each."""

import base64
import html
import io
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

import pandas
import seaborn
from IPython.display import HTML, display
from IPython.display import Image as Picture
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from mglib.frame import COLUMNS
from mglib.frame import names as frame_names
from mglib.metrics import Estimate
from mglib.paper import PAPER, is_quoted
from mglib.paths import RUNS, write_json, write_text
from mglib.settings import Settings
from mglib.study import display_names

Number = dict[str, Any]
Rows = Mapping[str, Mapping[str, Estimate | None]]  # row -> measure -> estimate

NUMBER_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
FILE_NAME = re.compile(r"[a-z0-9_]+")
FIELDS = ("name", "value", "low", "high", "n", "seeds", "seed_sd", "unit", "paper", "note", "notebook")
INK = {"axes.edgecolor": "0.4", "figure.facecolor": "white", "savefig.facecolor": "white"}
LOOK = """body {font: 16px sans-serif; margin: 2em auto; max-width: 70em}
img {max-width: 100%} table {border-collapse: collapse; margin: 1em 0}
td, th {padding: .2em .6em; border: 1px solid #ccc; text-align: left}"""


class Report:
    """The results of one notebook, under runs/; making one clears what an earlier run left."""

    def __init__(self, settings: Settings, *, notebook: str, runs: Path = RUNS):
        self.notebook = notebook
        self.folder = runs / settings.folder_name
        self._numbers: list[Number] = []
        for kind in ("figures", "tables"):
            shutil.rmtree(self.folder / kind / notebook, ignore_errors=True)
        write_json(self._numbers_file, [])
        style()

    @property
    def _numbers_file(self) -> Path:
        return self.folder / "numbers" / f"{self.notebook}.json"

    def number(
        self,
        name: str,
        value: float,
        *,
        low: float | None = None,
        high: float | None = None,
        n: int | None = None,
        unit: str = "",
        paper: float | None = None,
        note: str = "",
    ) -> None:
        """Keep one number: its 95 % interval over n pictures, the paper's value.

        Raises ValueError for a value that is not finite, half an interval, or a malformed or taken name.
        """
        given = {"value": value, "low": low, "high": high, "paper": paper}
        for what, figure in given.items():
            if figure is not None and not math.isfinite(figure):
                raise ValueError(
                    f"{name}: its {what} is {figure}; only finite numbers are kept, so find the cause."
                )
        if (low is None) != (high is None) or (low is not None and low > high):
            raise ValueError(f"{name}: an interval needs both ends in order, not {low} and {high}.")
        self._add(
            name,
            value=float(value),
            low=_float(low),
            high=_float(high),
            n=None if n is None else int(n),
            seeds=1,
            seed_sd=None,
            unit=unit,
            paper=_float(paper),
            note=note,
        )

    def estimate(
        self, name: str, estimate: Estimate | None, *, paper: float | None = None, note: str = ""
    ) -> None:
        """Keep an estimate with its interval; None (nothing was counted) is listed as not applicable."""
        if estimate is None:
            self.not_applicable(name, reason="nothing was mentioned that could be counted", paper=paper)
        else:
            low, high = estimate.low, estimate.high
            self.number(name, estimate.value, low=low, high=high, n=estimate.n, paper=paper, note=note)

    def estimates(
        self,
        prefix: str,
        found: Mapping[str, Estimate | None],
        *,
        note: str | Mapping[str, str] = "",
        paper: Mapping[str, str] | None = None,
    ) -> None:
        """Keep estimates as `prefix.name`: `note` goes with all of them or is each one's, by its name.

        `paper` names the paper's number that stands beside ours, where it is not called the same.
        """
        for name, estimate in found.items():
            theirs = (paper or {}).get(name, f"{prefix}.{name}")
            about = note if isinstance(note, str) else note[name]
            self.estimate(f"{prefix}.{name}", estimate, paper=PAPER.get(theirs), note=about)

    def rows(
        self,
        rows: Rows,
        *,
        prefix: str,
        note: str | Mapping[str, str],
        remarks: Mapping[str, str] | None = None,
    ) -> None:
        """Keep `prefix.measure.row` for each cell of a table, with the paper's value of that name.

        `note` goes with every number, or by its measure; what `remarks` says of a row is added to those of
        that row. A model that the paper compares with and that is not run here is quoted and marked so.
        """
        for row, cells in rows.items():
            more = (remarks or {}).get(row)
            for measure, estimate in cells.items():
                name = f"{prefix}.{measure}.{row}"
                if is_quoted(name):
                    self.not_applicable(name, reason="quoted from the paper, not run here", paper=PAPER[name])
                    continue
                about = note if isinstance(note, str) else note[measure]
                about = f"{about}; {more}" if more else about
                self.estimate(name, estimate, paper=PAPER.get(name), note=about)

    def not_applicable(self, name: str, *, reason: str, paper: float | None = None) -> None:
        """List a number that cannot exist under this profile; its value is null and its note the reason."""
        self._add(
            name,
            value=None,
            low=None,
            high=None,
            n=None,
            seeds=0,
            seed_sd=None,
            unit="",
            paper=_float(paper),
            note=f"not applicable: {reason}",
        )

    def verdict(self, name: str, value: int | None, *, note: str) -> None:
        """Keep what other numbers say of a claim: 1, 0, or None where it cannot be told."""
        more = {"low": None, "high": None, "n": None, "seed_sd": None, "unit": "", "paper": None}
        self._add(name, value=_float(value), seeds=int(value is not None), note=note, **more)

    def absent(self, prefix: str, *, reason: str) -> None:
        """List the paper's numbers below a prefix that have not been reported as not applicable."""
        reported = {entry["name"] for entry in self._numbers}
        for name, value in PAPER.items():
            if name.startswith(f"{prefix}.") and name not in reported:
                self.not_applicable(name, reason=reason, paper=value)

    def _add(self, name: str, **fields: Any) -> None:
        if not NUMBER_NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name of a number: use lower case and dots, as in `stage1.loss`."
            )
        if any(entry["name"] == name for entry in self._numbers):
            raise ValueError(f"{name} was reported twice; to run cells again, make the Report again first.")
        self._numbers.append({"name": name, **fields, "notebook": self.notebook})
        write_json(self._numbers_file, self._numbers)

    def add(self, frame: pandas.DataFrame) -> None:
        """Keep each row of a tidy frame (`mglib.frame`) as a number, with the paper's value of that name."""
        for name, row in zip(frame_names(frame), frame.to_dict("records"), strict=True):
            known = {
                key: None if pandas.isna(row[key]) else row[key] for key in ("value", "low", "high", "n")
            }
            if known["n"] is not None:
                known["n"] = int(known["n"])
            seeds = int(known["value"] is not None)
            more = {
                "seeds": seeds,
                "seed_sd": None,
                "unit": "",
                "paper": PAPER.get(name),
                "note": row["note"],
            }
            self._add(name, **known, **more)

    def results(self, name: str, frame: pandas.DataFrame, **how: Any) -> None:
        """Keep the numbers of a tidy frame, and save and show them as a table (`pivot`)."""
        self.add(frame)
        self.table(name, frame, **how)

    def figure(self, name: str, fig: Figure | None) -> None:
        """Save a figure as PNG at 150 dpi, show it once as JPEG, close it; None says that there is none."""
        if fig is None:
            print(f"{name}: nothing to draw under this profile")
            return
        path = self._path("figures", name, ".png")
        fig.savefig(path, dpi=150, bbox_inches="tight", metadata={"Software": None})
        shown = io.BytesIO()
        fig.savefig(shown, dpi=100, bbox_inches="tight", format="jpeg", pil_kwargs={"quality": 85})
        pyplot.close(fig)  # or the notebook's backend shows it a second time
        display(Picture(data=shown.getvalue(), format="jpeg"))

    def intervals(self, name: str, groups: Mapping[str, Mapping[str, Estimate | None]], **how: Any) -> None:
        """Save and show estimates with their intervals as one figure (`figures.intervals`).

        What was not measured is left out; nothing is drawn where nothing was.
        """
        from mglib.repro import figures

        measured = {group: {row: one for row, one in rows.items() if one} for group, rows in groups.items()}
        measured = {group: rows for group, rows in measured.items() if rows}
        if measured:
            self.figure(name, figures.intervals(measured, **how))

    def forest(self, name: str, frame: pandas.DataFrame, **how: Any) -> None:
        """Save and show the numbers of a tidy frame by `figures.forest`."""
        from mglib.repro import figures

        self.figure(name, figures.forest(frame, **how))

    def sheet(self, name: str, image: Image.Image | None) -> None:
        """Save a sheet of pictures as JPEG and show it; None says that there is none."""
        if image is None:
            print(f"{name}: no picture of this kind under this profile")
            return
        path = self._path("figures", name, ".jpg")
        image.convert("RGB").save(path, quality=85, optimize=True)
        display(Picture(data=path.read_bytes(), format="jpeg"))

    def table(self, name: str, table: pandas.DataFrame | None, **how: Any) -> None:
        """Save a table as CSV and as Markdown, and show it under the names that readers see; None says that
        there is none. An index that counts rows is left out; a tidy frame is laid out by `pivot`.
        """
        if table is None:
            print(f"{name}: no table under this profile")
            return
        if not isinstance(table.index, pandas.RangeIndex):
            table = table.reset_index()
        table = pivot(table, **how) if tuple(table) == COLUMNS else display_names.table(table)
        table.to_csv(self._path("tables", name, ".csv"), index=False)
        write_text(self._path("tables", name, ".md"), markdown(table))
        display(HTML(table.to_html(index=False, na_rep="-", float_format=rounded)))

    def show(self) -> None:
        """Show how many numbers, figures and tables this notebook has reported, and where they stand.

        The numbers themselves, beside the paper's, are on the results' page (`mglib/repro/publish.py`).
        """
        parts = Counter(entry["name"].partition(".")[0] for entry in self._numbers)
        names = ", ".join(f"{part}.* ({count})" for part, count in parts.items())
        lines = [("numbers", len(self._numbers), f"numbers/{self.notebook}.json", names)]
        for kind in ("figures", "tables"):
            stems = sorted({path.stem for path in (self.folder / kind / self.notebook).glob("*")})
            lines.append((kind, len(stems), f"{kind}/{self.notebook}/", ", ".join(stems)))
        columns = ["what", "how many", f"where in {RUNS.name}/{self.folder.name}/", "names"]
        display(HTML(pandas.DataFrame(lines, columns=columns).to_html(index=False)))

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


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def style() -> None:
    """Give every figure the same look: readable sizes and a palette for colour-blind readers too."""
    seaborn.set_theme(context="notebook", style="whitegrid", palette="colorblind", rc=INK)


def numbers(folder: Path) -> list[Number]:
    """Return the numbers of a run's notebooks in their order; raises ValueError when two share a name."""
    merged: dict[str, Number] = {}
    for path in sorted((folder / "numbers").glob("*.json")):
        for entry in json.loads(path.read_text(encoding="utf-8")):
            if entry["name"] in merged:
                both = f"{merged[entry['name']]['notebook']} and {entry['notebook']}"
                raise ValueError(f"{entry['name']} is reported by {both}: rename one.")
            merged[entry["name"]] = entry
    return list(merged.values())


def spread(entries: list[Number], others: Sequence[list[Number]]) -> list[Number]:
    """Add to each number its standard deviation over trainings: this run's and those with `others`' seeds.

    A number that no other run has stays as it is.
    """
    known = [{entry["name"]: entry["value"] for entry in other} for other in others]
    found = []
    for entry in entries:
        values = [entry["value"], *(run.get(entry["name"]) for run in known)]
        values = [value for value in values if value is not None]
        several = entry["value"] is not None and len(values) > 1
        whole = {**entry, "seeds": len(values), "seed_sd": stdev(values)} if several else entry
        found.append({field: whole[field] for field in FIELDS})
    return found


def compare(run: list[Number], published: list[Number]) -> pandas.DataFrame:
    """Return the run's numbers beside the published ones; low and high are the published interval.

    `reproduced` says whether that interval holds ours. It is empty where there is nothing to hold ours to: no
    published number, none in this run, or no interval, as for speeds.
    """
    ours = {entry["name"]: entry for entry in run}
    theirs = {entry["name"]: entry for entry in published}
    rows = []
    for name in dict.fromkeys([*ours, *theirs]):  # the run's order, then what it lacks
        entry, other = ours.get(name, {}), theirs.get(name, {})
        value, low, high = entry.get("value"), other.get("low"), other.get("high")
        known = value is not None and low is not None
        rows.append(
            {
                "name": name,
                "ours": value,
                "published": other.get("value"),
                "low": low,
                "high": high,
                "reproduced": low <= value <= high if known else None,
                "paper": (entry or other)["paper"],
                "note": (entry or other)["note"],
            }
        )
    columns = ["name", "ours", "published", "low", "high", "reproduced", "paper", "note"]
    return pandas.DataFrame(rows, columns=columns).astype({"reproduced": object})


def printable(comparison: pandas.DataFrame) -> pandas.DataFrame:
    """Return what `compare` gave with its numbers rounded and its verdicts in words."""
    verdicts = {True: "yes", False: "NO", None: "-"}
    table = comparison.copy()
    for column in ("ours", "published", "low", "high", "paper"):
        table[column] = [rounded(value) for value in comparison[column]]
    table["reproduced"] = [verdicts[value] for value in comparison["reproduced"]]
    return table


def pivot(
    frame: pandas.DataFrame,
    *,
    rows: str | Sequence[str] = "system",
    columns: str = "measure",
    names: Mapping[str, str] | None = None,
) -> pandas.DataFrame:
    """Lay a tidy frame out for readers: a number with its interval and the paper's value in each cell.

    A row for each value of the columns `rows`, by the names that readers see or those in `names`; n, the
    pictures, comes last.
    """
    by = [rows] if isinstance(rows, str) else list(rows)
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    counts: dict[tuple[str, ...], list[str]] = {}
    for name, row in zip(frame_names(frame), frame.to_dict("records"), strict=True):
        key = tuple(row[column] for column in by)
        first = {"": ", ".join(filter(None, (display_names.of(part, names) for part in key)))}
        lines.setdefault(key, first)[display_names.column(row[columns], names)] = cell(row, PAPER.get(name))
        if not pandas.isna(row["n"]):
            counts.setdefault(key, []).append(f"{row['n']:.0f}")
    for key, line in lines.items():
        line["n"] = ", ".join(dict.fromkeys(counts.get(key, ["-"])))
    table = pandas.DataFrame(list(lines.values())).fillna("-")
    return table[[*(column for column in table if column != "n"), "n"]] if len(table) else table


def cell(entry: Mapping[str, Any], paper: float | None = None) -> str:
    """Write one number of a frame with its interval and the paper's value."""
    return interval(entry) if paper is None else f"{interval(entry)} (paper {rounded(paper)})"


def rounded(value: float | None) -> str:
    """Write a number for readers: three digits, thousands whole, a dash for none."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def interval(entry: Mapping[str, Any]) -> str:
    """Write a number with its 95 % interval, where it has one."""
    if pandas.isna(entry["low"]):
        return rounded(entry["value"])
    return f"{rounded(entry['value'])} [{rounded(entry['low'])}, {rounded(entry['high'])}]"


def readable(entry: Number) -> dict[str, str]:
    """Return the columns a reader sees of one number."""
    ours = interval(entry)
    if entry["seed_sd"] is not None:
        ours += f" (sd {rounded(entry['seed_sd'])} over {entry['seeds']} seeds)"
    unit = f" ({entry['unit']})" if entry["unit"] else ""
    return {
        "what": entry["name"] + unit,
        "ours [95 % interval]": ours,
        "n": rounded(entry["n"]),
        "paper": rounded(entry["paper"]),
        "note": entry["note"],
    }


def markdown(table: pandas.DataFrame) -> str:
    """Return a table as Markdown, with a dash where there is no number.

    pandas pads every cell to the widest one, which makes README unreadable as text.
    """

    def line(cells: Iterable[object]) -> str:
        texts = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
        texts = ["-" if text == "nan" else text.replace("|", "\\|").replace("\n", " ") for text in texts]
        return f"| {' | '.join(texts)} |"

    head = [line(table.columns), "|" + " --- |" * len(table.columns)]
    return "\n".join(head + [line(row) for row in table.itertuples(index=False)]) + "\n"


def page(folder: Path, *, comparison: pandas.DataFrame, minutes: dict[str, float]) -> str:
    """Return a run as one HTML file that needs no other: its numbers, its figures, each notebook's time."""
    times = pandas.DataFrame({"notebook": list(minutes), "minutes": [f"{m:.1f}" for m in minutes.values()]})
    name = html.escape(folder.name)
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f"<title>{name}</title>",
        f"<style>{LOOK}</style>",
        f"<h1>{name}</h1>",
        printable(comparison).to_html(index=False),
        times.to_html(index=False),
    ]
    for path in sorted((folder / "figures").glob("*/*")):
        kind = {".png": "png", ".jpg": "jpeg"}[path.suffix]
        data = base64.b64encode(path.read_bytes()).decode()
        parts.append(f"<h2>{path.parent.name}: {path.stem}</h2>")
        parts.append(f'<img alt="{path.stem}" src="data:image/{kind};base64,{data}">')
    return "\n".join(parts) + "</html>\n"
