"""`make tune`: run the grid searches behind a profile's choices, and keep their tables in data/tuning/.

Nothing else runs them. Each grid is evaluated on `val` or on held-out pairs, with the profile's own choices
for all earlier grids, so after a changed choice the later ones have to run again: ONLY="stage2 decoding".
"""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas

from mglib.data.records import read_json
from mglib.evals.checklist import CHECKLISTS
from mglib.experiments import (
    abilities,
    ablations,
    curated,
    descriptions,
    languages,
    preferences,
    stage1,
    stage2,
)
from mglib.paths import ROOT, TUNING, write_json, write_text
from mglib.repro import tuning
from mglib.repro.ledger import CannotRun
from mglib.study.machine import here
from mglib.study.models import PromptedModel
from mglib.study.stage1 import Stage1
from mglib.study.stage2 import prompted_models, stage2_data
from mglib.study.study import Study

SPECIAL = tuple(dict.fromkeys(f"{sheet.kind}_val" for sheet in CHECKLISTS.values()))


def models(study: Study, *splits: str) -> tuple[Study, Stage1, dict[str, PromptedModel]]:
    """Return a study with stage 1 on some splits and with the models of the tables."""
    base = Stage1.of(study, *splits)
    return study, base, prompted_models(study, base)


def of_stage2(study: Study) -> pandas.DataFrame:
    """Compare learning rates of stage 2 by the measures of Tables 1 and 3, on val."""
    base = Stage1.of(study, "pool", "val", *SPECIAL)
    return stage2.rates(study, base, stage2_data(study, base)["curated"])


def of_preferences(study: Study) -> pandas.DataFrame:
    """Compare learning rates of preference optimisation on held-out pairs."""
    _, base, start = models(study, "pool")
    return preferences.rates(study, preferences.collect(study, base, start["minigpt4"]))


MAKE: Mapping[str, Callable[[Study], pandas.DataFrame]] = MappingProxyType(
    {
        "language": lambda study: languages.compared(study),
        "stage1": lambda study: stage1.trials(study, Stage1.of(study, "val", *SPECIAL)),
        "temperatures": lambda study: curated.temperatures(study, Stage1.of(study, "val")),
        "stage2": of_stage2,
        "decoding": lambda study: abilities.tried(*models(study, "pool", *SPECIAL)),
        "descriptions": lambda study: descriptions.tried(*models(study, "pool", "val")),
        "arms": lambda study: ablations.rates(study, Stage1.of(study, "val")),
        "preferences": of_preferences,
    }
)


def chosen(study: Study, wanted: str) -> list[str]:
    """Return the requested grids, or all of the profile's; raises CannotRun for unknown ones."""
    known, words = tuning.compared(study.profile), wanted.replace(",", " ").split()
    if not known:
        raise CannotRun(f"{study.profile.name} compares nothing: its settings are published ones.")
    for word in words:
        if word not in known:
            raise CannotRun(f"{study.profile.name} has no grid {word!r}; choose from {', '.join(known)}.")
    return [name for name in known if not words or name in words]


def commit() -> str | None:
    """Return the commit of the code, with -dirty where files differ from it; None without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def keep(study: Study, name: str, table: pandas.DataFrame, about: dict[str, Any], folder: Path) -> None:
    """Write a grid's table, its entry in the card, and the page of all grids, each atomically."""
    path = tuning.file(study.profile, name, folder)
    card = path.with_name(tuning.CARD)
    known = read_json(card) if card.exists() else {}
    order = [grid for grid in tuning.GRIDS if grid in {*known, name}]
    write_json(card, {grid: about if grid == name else known[grid] for grid in order})
    write_text(path, table.to_csv(index=False))  # after its entry, without which no table is read
    write_text(card.with_name("README.md"), tuning.page(study.profile, folder))


def tune(study: Study, names: Sequence[str], *, folder: Path = TUNING) -> None:
    """Run some grids, one after the other, and print where the profile disagrees with its tables."""
    machine, profile, code = here(), study.profile, commit()  # of what runs; files may change in the hours
    print(f"this machine: {machine}")
    for name in names:
        if tuning.file(profile, name, folder).exists():
            made = tuning.made(profile, name, folder)
            print(f"{name}: took {made['minutes']:g} min on {made['processor']}, {made['precision']}")
        else:
            print(f"{name}: never made under {profile.name}, so how long it takes is not known")
    print("Each goes on from what it has trained.", flush=True)
    for name in names:
        began = time.monotonic()
        table = MAKE[name](study)
        about = {
            "date": date.today().isoformat(),
            "processor": machine.processor,
            "precision": machine.dtype,
            "commit": code,
            "seed": study.seed,
            "weights": study.weights,
            "minutes": round((time.monotonic() - began) / 60, 1),
        }
        keep(study, name, table, about, folder)
        print(f"\n{name}: {tuning.GRIDS[name].criterion}")
        print(tuning.marked(profile, name, table).to_string(index=False))
        for fault in tuning.faults(profile, name, table):
            print(f"to be changed in mglib/profiles.py: {fault}", flush=True)
