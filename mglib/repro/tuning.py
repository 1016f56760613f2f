"""What a profile's choices rest on: the tables of `make tune`, by which rule each is read, and whether the
profile says what its tables say.

A choice itself is a value of the profile: no run reads it from here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas

from mglib.config import Profile
from mglib.data.records import read_json
from mglib.experiments import abilities, ablations, descriptions
from mglib.experiments.stage1 import start_name
from mglib.paths import TUNING
from mglib.study import display_names

CARD = "card.json"
MARK = "chosen"  # the column that marks the profile's choices


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How a table is read: the row with the best `measure` holds what the profile is to say."""

    settings: tuple[str, ...]  # the columns that say what was tried
    measure: str
    highest: bool = False  # is best; else the lowest
    of: str | None = None  # the column of what has a choice of its own each
    alike: str | None = None  # of the settings: only rows in which it is the profile's compete
    compares: Callable[[Profile], bool]  # whether a profile has something to compare
    choice: Callable[[Profile, str], tuple[Any, ...]]  # its settings, for one of `of`

    @property
    def criterion(self) -> str:
        """The rule in words."""
        best = f"{'highest' if self.highest else 'lowest'} {display_names.of(self.measure)}"
        each = f" for each {self.of}" if self.of else ""
        return f"{best}{each}" + (f", of the rows with the profile's {self.alike}" if self.alike else "")


def decoding(profile: Profile, model: str) -> tuple[str, str]:
    """Return how the profile lets a model of Table 1 decode, and its wording."""
    how = abilities.asked(profile.evaluation, model)
    return how.decoding, how.wording or abilities.WORDINGS[model][0]


# In the order in which they are made: each is made with the choices of those before it.
GRIDS: Mapping[str, Grid] = MappingProxyType(
    {
        "stage1": Grid(
            settings=("start", "lr", "steps"),
            measure="chair_i",
            alike="steps",
            compares=lambda profile: bool(profile.stage1_trials),
            choice=lambda profile, _: (
                start_name(profile.warm_start),
                profile.stage1.lr,
                profile.stage1.steps,
            ),
        ),
        "temperatures": Grid(
            settings=("temperature",),
            measure="fit",
            highest=True,
            compares=lambda profile: bool(profile.curation.temperatures),
            choice=lambda profile, _: (profile.curation.temperature,),
        ),
        "stage2": Grid(
            settings=("lr",),
            measure="loss",
            compares=lambda profile: bool(profile.stage2_rates),
            choice=lambda profile, _: (profile.stage2.lr,),
        ),
        "decoding": Grid(
            settings=("decoding", "wording"),
            measure="items",
            highest=True,
            of="model",
            compares=lambda profile: profile.world is not None,
            choice=decoding,
        ),
        "descriptions": Grid(
            settings=("decoding",),
            measure="references_covered",
            highest=True,
            of="model",
            compares=lambda profile: profile.world is not None,
            choice=lambda profile, model: (descriptions.decoding(profile.evaluation, model),),
        ),
        "arms": Grid(
            settings=("lr",),
            measure="loss",
            of="arm",
            compares=lambda profile: profile.ablation is not None and bool(profile.ablation.rates),
            choice=lambda profile, arm: (ablations.settings(profile.ablation, arm).lr,),
        ),
        "preferences": Grid(
            settings=("lr",),
            measure="loss",
            compares=lambda profile: profile.preference is not None and bool(profile.preference.rates),
            choice=lambda profile, _: (profile.preference.train.lr,),
        ),
    }
)


def compared(profile: Profile) -> list[str]:
    """Name the grids of a profile, in the order in which they are made."""
    return [name for name, grid in GRIDS.items() if grid.compares(profile)]


def file(profile: Profile, name: str, folder: Path = TUNING) -> Path:
    """Where the table of a grid lies; it is there only after `make tune`."""
    return folder / profile.name / f"{name}.csv"


def read(path: Path) -> pandas.DataFrame:
    """Read a table; what a start is called is no number."""
    return pandas.read_csv(path, dtype={"start": str})


def made(profile: Profile, name: str, folder: Path = TUNING) -> dict[str, Any]:
    """Return what the card says of a grid: when, on what and from what it was made."""
    return read_json(folder / profile.name / CARD)[name]


def same(one: Any, other: Any) -> bool:
    """Compare two settings; numbers have been through a file."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return math.isclose(one, other, rel_tol=1e-9)


def own(profile: Profile, name: str, table: pandas.DataFrame) -> pandas.Series:
    """Tell of each row whether it holds the profile's choice."""
    grid = GRIDS[name]

    def holds(row: pandas.Series) -> bool:
        choice = grid.choice(profile, row[grid.of] if grid.of else "")
        return all(same(row[what], value) for what, value in zip(grid.settings, choice, strict=True))

    return pandas.Series([holds(row) for _, row in table.iterrows()], index=table.index, dtype=bool)


def marked(profile: Profile, name: str, table: pandas.DataFrame) -> pandas.DataFrame:
    """Add a column that marks the profile's choices."""
    return table.assign(**{MARK: ["*" if mine else "" for mine in own(profile, name, table)]})


def faults(profile: Profile, name: str, table: pandas.DataFrame) -> list[str]:
    """Say where a profile does not say what its table says; of equals each will do."""
    grid, mine = GRIDS[name], own(profile, name, table)
    groups = table.groupby(grid.of, sort=False) if grid.of else [("", table)]
    found = []
    for each, rows in groups:
        what, choice = f"{name} {each}".strip(), grid.choice(profile, each)
        rivals = rows.dropna(subset=[grid.measure])
        if grid.alike:
            alike = choice[grid.settings.index(grid.alike)]
            rivals = rivals[[same(value, alike) for value in rivals[grid.alike]]]
        if not mine[rivals.index].any():
            found.append(f"{what}: the profile's {choice} is not in the table")
            continue
        values = rivals[grid.measure]
        best = values.idxmax() if grid.highest else values.idxmin()
        if not any(same(value, values[best]) for value in values[mine[rivals.index]]):
            better = tuple(rivals.loc[best, list(grid.settings)])
            found.append(f"{what}: {better} is better than the profile's {choice} ({grid.criterion})")
    return found
