"""The tables of `make tune` behind a profile's choices, and whether the profile agrees with them.

A choice itself is a value of the profile: no run reads it from here. In every table the row with the best
`measure` holds the values that the profile should have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas

from mglib.config import Profile
from mglib.data.records import read_json
from mglib.errors import needed
from mglib.experiments import abilities, ablations, descriptions
from mglib.experiments.stage1 import start_name
from mglib.paths import TUNING
from mglib.repro.report import markdown
from mglib.study import display_names

CARD = "card.json"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What a table compares, by which measure, and what the profile has chosen."""

    measure: str
    highest: bool = False  # is best; else the lowest
    decides: bool = True  # else the table only informs: the choice has another reason
    of: str | None = None  # the column whose values each have their own choice
    note: str = ""  # appended to the rule
    candidates: Callable[[Profile], Any]  # what a profile compares; empty: nothing
    choice: Callable[[Profile, str], dict[str, Any]]  # its row, column by column, for one value of `of`

    @property
    def criterion(self) -> str:
        """The rule in words."""
        best = f"{'highest' if self.highest else 'lowest'} {display_names.of(self.measure)}"
        return best + (f" for each {self.of}" if self.of else "") + self.note


def decoding(profile: Profile, model: str) -> dict[str, str]:
    """Return the profile's decoding and wording for a model of Table 1."""
    how = abilities.asked(profile.evaluation, model)
    return {"decoding": how.decoding, "wording": how.wording or abilities.WORDINGS[model][0]}


# In the order in which they are run: each uses the choices of those before it.
GRIDS: Mapping[str, Grid] = MappingProxyType(
    {
        "language": Grid(
            measure="requests",
            highest=True,
            decides=False,
            note="; the profile takes what its budget of minutes allows",
            candidates=lambda profile: profile.weak_language,
            choice=lambda profile, _: {"language": profile.language.name},
        ),
        "stage1": Grid(
            measure="chair_i",
            note="; of rows from several seeds the mean, and only rows from most seeds compete",
            candidates=lambda profile: profile.stage1_trials,
            choice=lambda profile, _: {
                "start": start_name(profile.warm_start),
                "lr": profile.stage1.lr,
                "steps": profile.stage1.steps,
            },
        ),
        "temperatures": Grid(
            measure="fit",
            highest=True,
            candidates=lambda profile: profile.curation.temperatures,
            choice=lambda profile, _: {"temperature": profile.curation.temperature},
        ),
        "stage2": Grid(
            measure="balance",
            highest=True,
            candidates=lambda profile: profile.stage2_rates,
            choice=lambda profile, _: {"lr": profile.stage2.lr},
        ),
        "decoding": Grid(
            measure="items",
            highest=True,
            of="model",
            candidates=lambda profile: profile.world,
            choice=decoding,
        ),
        "descriptions": Grid(
            measure="references_covered",
            highest=True,
            of="model",
            note=", of which an answer that fails covers none",
            candidates=lambda profile: profile.world,
            choice=lambda profile, model: {"decoding": descriptions.decoding(profile.evaluation, model)},
        ),
        "arms": Grid(
            measure="loss",
            of="arm",
            candidates=lambda profile: profile.ablation and profile.ablation.rates,
            choice=lambda profile, arm: {"lr": ablations.settings(profile, arm).lr},
        ),
        "preferences": Grid(
            measure="loss",
            candidates=lambda profile: profile.preference and profile.preference.rates,
            choice=lambda profile, _: {"lr": needed(profile.preference, "`preference`").train.lr},
        ),
    }
)


def compared(profile: Profile) -> list[str]:
    """Return the names of a profile's grids, in the order in which they are run."""
    return [name for name, grid in GRIDS.items() if grid.candidates(profile)]


def file(profile: Profile, name: str, folder: Path = TUNING) -> Path:
    """Return the path of a grid's table, which exists only after `make tune`."""
    return folder / profile.name / f"{name}.csv"


def read(path: Path) -> pandas.DataFrame:
    """Read a table; the names in the column `start` stay text."""
    return pandas.read_csv(path, dtype={"start": str})


def made(profile: Profile, name: str, folder: Path = TUNING) -> dict[str, Any]:
    """Return a grid's entry in the card: when, on which machine and from which code it was made."""
    return read_json(folder / profile.name / CARD)[name]


def own(profile: Profile, name: str, table: pandas.DataFrame) -> pandas.Series:
    """Return for each row whether it holds the profile's choice."""
    grid = GRIDS[name]
    choices = [grid.choice(profile, each) for each in (table[grid.of] if grid.of else [""] * len(table))]
    wanted = pandas.DataFrame(choices, index=table.index)
    return (table[list(wanted)] == wanted).all(axis=1)


def marked(profile: Profile, name: str, table: pandas.DataFrame) -> pandas.DataFrame:
    """Add a column `chosen` that marks the profile's choices."""
    return table.assign(chosen=own(profile, name, table).map({True: "*", False: ""}))


def faults(profile: Profile, name: str, table: pandas.DataFrame) -> list[str]:
    """Return where a profile disagrees with its table; any of several equally good choices will do.

    Rows with the same choice are trainings from several seeds: their mean counts, and choices with fewer rows
    than the others, which a first look sorted out, do not compete.
    """
    grid, found = GRIDS[name], list[str]()
    if not grid.decides:
        return found
    for each, rows in table.groupby(grid.of, sort=False) if grid.of else [("", table)]:
        what, choice = f"{name} {each}".strip(), grid.choice(profile, each)
        if not own(profile, name, rows).any():
            found.append(f"{what}: the profile's {choice} is not in the table")
            continue
        runs = rows.groupby(list(choice), sort=False)[grid.measure].agg(["mean", "count"]).reset_index()
        runs = runs[runs["count"] == runs["count"].max()]
        best = runs[runs["mean"] == (runs["mean"].max() if grid.highest else runs["mean"].min())]
        best = best[list(choice)].to_dict("records")
        if choice not in best:
            found.append(f"{what}: {best[0]} is better than the profile's {choice} ({grid.criterion})")
    return found


def page(profile: Profile, folder: Path = TUNING) -> str:
    """Return all tables of a profile as Markdown, with its choices marked."""
    parts = [
        f"# What `make tune` compared for the profile `{profile.name}`\n",
        "On `val` or on held-out pairs, never on a test split. `*` marks the profile's choice.\n",
    ]
    for name in compared(profile):
        if (path := file(profile, name, folder)).exists():
            about, table = made(profile, name, folder), read(path)
            parts.append(f"## {name}\n")
            parts.append(f"{about['date']}, {about['processor']}; best: {GRIDS[name].criterion}.\n")
            parts.append(markdown(display_names.table(marked(profile, name, table))))
            parts += [f"The profile disagrees. {fault}.\n" for fault in faults(profile, name, table)]
    return "\n".join(parts)
