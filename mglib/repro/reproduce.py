"""Run the notebooks whose inputs have changed, and compare their numbers with the published ones."""

import ast
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nbformat
import pandas
import papermill
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode

from mglib.data.records import read_json
from mglib.paths import ROOT, write_text
from mglib.repro.ledger import (
    INJECTED,
    MINUTES,
    CannotRun,
    Ledger,
    code_cells,
    dependencies,
    only_one,
    source_notebooks,
    with_outputs,
)
from mglib.repro.pretrain import remake
from mglib.repro.report import numbers, read, rounded
from mglib.settings import Settings
from mglib.study.machine import Machine, here
from mglib.study.study import Study
from mglib.weights.sources import SOURCES

SLOW = (
    "; that is far more: look for another process at work (top), for fewer threads than cores "
    "(OMP_NUM_THREADS), and for memory that is swapped out (free)"
)


class Screen:
    """A notebook's progress in the terminal: a line for each code cell, and now and then its output."""

    def __init__(self, name: str, notebook: NotebookNode, *, pause: float = 10.0):
        self.number, self.pause = name[:2], pause
        self.total = sum(bool(cell.source.strip()) for cell in code_cells(notebook))
        self.count, self.title = 0, ""

    def start(self, cell: NotebookNode, cell_index: int) -> None:
        """Announce a cell by the heading that it is under."""
        self._began = self._spoke = time.monotonic()
        self._open = False  # whether the cursor is after a cell's title
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)
            self.title = headings[-1][:70] if headings else self.title
        elif cell.source.strip() and INJECTED not in cell.metadata.get("tags", []):
            self.count += 1
            self._open = True
            print(f"[{self.number} {self.count}/{self.total}] {self.title} ... ", end="", flush=True)

    def end(self, cell: NotebookNode, cell_index: int, execute_reply: Any) -> None:
        """Print how long the cell took."""
        if INJECTED not in cell.metadata.get("tags", []):
            print(("" if self._open else "    ") + f"{time.monotonic() - self._began:.0f} s", flush=True)

    def write(self, text: str) -> None:
        """Print the last line of a cell's stream, at most every `pause` seconds: bars write ten a second."""
        lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
        if lines and time.monotonic() - self._spoke >= self.pause:
            print(("\n" if self._open else "") + "    " + lines[-1][:100], flush=True)
            self._open, self._spoke = False, time.monotonic()

    def flush(self) -> None:
        """Do nothing: every line is flushed as it is printed."""


def check_parameters(path: Path, notebook: NotebookNode) -> None:
    """Raise CannotRun unless one cell is tagged `parameters` and sets the settings and nothing else.

    papermill only warns about a parameter unknown to the notebook, and runs with the notebook's own.
    """
    cells = [cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", [])]
    lines = ast.parse("\n".join(cell.source for cell in cells)).body
    names = [ast.unparse(node.targets[0]) for node in lines if isinstance(node, ast.Assign)]
    wanted = list(asdict(Settings()))
    if len(cells) != 1 or len(lines) != len(wanted) or names != wanted:
        raise CannotRun(
            f"{path.name} needs one cell tagged `parameters` that sets {', '.join(wanted)} and no more; "
            f"it has {len(cells)}, with {', '.join(names) or 'no name'}."
        )


def last_words(error: papermill.PapermillExecutionError | DeadKernelError) -> str:
    """Return the last line of a cell's error."""
    if isinstance(error, DeadKernelError):
        return "the kernel died, most likely for want of memory: close other programs first."
    return f"{error.ename}: {(error.evalue.strip().splitlines() or [''])[-1]}"


def run_notebook(path: Path, folder: Path, settings: Settings) -> float:
    """Run one notebook into the folder; returns seconds. Only success replaces an earlier run."""
    notebook = nbformat.read(path, as_version=4)
    check_parameters(path, notebook)
    running, failed = folder / f".{path.stem}.running.ipynb", folder / f"{path.stem}.failed.ipynb"
    screen, began = Screen(path.stem, notebook), time.monotonic()
    try:
        papermill.execute_notebook(
            path,
            running,
            parameters=asdict(settings),
            kernel_name="python3",
            cwd=path.parent,
            progress_bar=False,
            extra_arguments=["--IPKernelApp.log_level=50"],  # or it logs remarks on its transport
            stdout_file=screen,
            stderr_file=screen,
            on_cell_start=screen.start,
            on_cell_executed=screen.end,
        )
    except NoSuchKernel as error:
        raise CannotRun("No Jupyter kernel python3 is installed: run `make env`, then this again.") from error
    except (papermill.PapermillExecutionError, DeadKernelError) as error:
        running.replace(failed)
        raise CannotRun(
            f"\n{path.name} failed in code cell {screen.count} of {screen.total} ({screen.title}): "
            f"{last_words(error)}\nThe cells and the whole error: {failed}\n"
            f"To run it again: {settings.command('reproduce', NOTEBOOKS=path.stem[:2])}"
        ) from error
    running.replace(folder / path.name)
    failed.unlink(missing_ok=True)
    return time.monotonic() - began


def refresh_prose(path: Path, kept: Path) -> None:
    """Update the text cells of a kept, executed notebook from its source, which may be newer."""
    executed, source = nbformat.read(kept, as_version=4), nbformat.read(path, as_version=4)
    text = nbformat.writes(with_outputs(source, executed))
    if text != kept.read_text(encoding="utf-8"):
        write_text(kept, text)


def chosen_seeds(seed: int, count: int | None) -> Sequence[int]:
    """Return one seed, or `count` seeds from 0; raises CannotRun if both are given or `count` is below 1."""
    if count is None:
        return [seed]
    if seed != Settings.seed or count < 1:
        raise CannotRun("SEEDS=3 runs the seeds 0, 1 and 2: leave SEED out, and take 1 or more.")
    return range(count)


def choose(root: Path, wanted: str) -> list[Path]:
    """Return the notebooks that start with one of the words, or all; raises CannotRun for unknown words."""
    paths, words = source_notebooks(root), wanted.replace(",", " ").split()
    if not paths:
        raise CannotRun(f"There are no notebooks in {root}: run this in a clone of the repository.")
    for word in words:
        if not any(path.stem.startswith(word) for path in paths):
            names = ", ".join(path.stem for path in paths)
            raise CannotRun(f"There is no notebook {word!r}; choose from {names}.")
    return [path for path in paths if not words or path.stem.startswith(tuple(words))]


def compare(run: pandas.DataFrame, published: pandas.DataFrame) -> pandas.DataFrame:
    """Return the run's numbers with the published ones; low and high are the published interval.

    `inside` tells whether that interval contains ours. It is empty if there is nothing to compare: no
    published number, none in this run, or no interval, as for speeds.
    """
    ours, theirs = (each.set_index("name") for each in (run, published))
    names = list(dict.fromkeys([*ours.index, *theirs.index]))  # the run's order, then what it lacks
    ours, theirs = ours.reindex(names), theirs.reindex(names)
    columns = {"ours": ours["value"], "published": theirs["value"]}
    table = pandas.DataFrame({**columns, "low": theirs["low"], "high": theirs["high"]}).astype(float)
    known = table[["ours", "low", "high"]].notna().all(axis=1)
    inside = table["ours"].between(table["low"], table["high"]).astype(object).where(known, None)
    paper = theirs["paper"].astype(float).fillna(ours["paper"].astype(float))
    return table.assign(inside=inside, paper=paper).reset_index(names="name")


def summarise(root: Path, settings: Settings, ledger: Ledger) -> None:
    """Print how many numbers lie inside the published intervals and which do not, the minutes, and where
    everything is; all numbers go to comparison.csv.
    """
    run, published = numbers(ledger.folder), read(root / "results" / settings.name / "numbers.json")
    run, known = (each[each["notebook"].isin(list(ledger.entries))] for each in (run, published))
    table = compare(run, known)
    if len(known):
        comparison = ledger.folder / "comparison.csv"
        write_text(comparison, table.to_csv(index=False))
        judged = table.dropna(subset=["inside"])
        outside = judged[~judged["inside"].astype(bool)]
        if len(outside):
            shown = outside.drop(columns=["inside", "paper"]).to_string(index=False, float_format=rounded)
            print(f"\noutside the published interval:\n{shown}")
        inside = len(judged) - len(outside)
        print(f"\n{inside} of {len(judged)} numbers with a published interval lie inside it ({comparison}).")
    else:
        print(f"\n{len(run)} numbers; none of {settings.name} are published to compare them with.")
    minutes = {name[:2]: entry["seconds"] / 60 for name, entry in ledger.entries.items()}
    each = ", ".join(f"{number} {taken:.1f}" for number, taken in minutes.items())
    print(f"minutes: {each}; {sum(minutes.values()):.1f} in all")
    print(f"notebooks, figures, tables and numbers: {ledger.folder}")


def expected_seconds(root: Path, profile: str, machine: Machine) -> dict[str, float]:
    """Return each notebook's seconds in the profile's published run, scaled by how fast that run's processor
    multiplies compared with this one. Empty if no run of the profile is published.
    """
    published = root / "results" / profile / MINUTES
    runs = read_json(published) if published.exists() else {}
    return {name: run["seconds"] * run["machine"]["gflops"] / machine.gflops for name, run in runs.items()}


def announce(settings: Settings, machine: Machine, expected: Mapping[str, float]) -> None:
    """Print the machine and how long the notebooks that will run are expected to take."""
    print(f"this machine: {machine}")
    if expected:
        each = ", ".join(f"{name[:2]} {seconds / 60:.0f}" for name, seconds in expected.items())
        print(
            "expected minutes, from the published run and the speed of both machines, if nothing is kept "
            f"from an earlier run: {each}; {sum(expected.values()) / 60:.0f} in all",
            flush=True,
        )
    else:
        print(f"No run of {settings.name} is published, so how long it takes is not known.", flush=True)


def reproduce(root: Path, settings: Settings, wanted: str, *, force: bool = False) -> None:
    """Bring the chosen notebooks of a run up to date; raises CannotRun at the first failure."""
    folder = root / "runs" / settings.folder_name
    chosen = choose(root, wanted)
    with only_one(folder):
        ledger = Ledger(folder)
        known = dependencies(root, settings)
        due = [path.stem for path in chosen if force or ledger.stale(path.stem, known[path.stem])]
        machine = here() if due else None
        expected = expected_seconds(root, settings.name, machine) if machine else {}
        if machine:
            announce(settings, machine, {name: expected[name] for name in due if name in expected})
        for path in chosen:
            parts = dependencies(root, settings)[path.stem]
            why = "forced" if force else ledger.stale(path.stem, parts)
            if why is None:
                refresh_prose(path, folder / path.name)
                print(f"{path.stem} unchanged, kept", flush=True)
                continue
            print(f"{path.stem} runs ({why})", flush=True)
            ledger.remove(path.stem)
            seconds = run_notebook(path, folder, settings)
            ledger.add(path.stem, parts, seconds, machine=asdict(machine or here()))
            if about := expected.get(path.stem):
                slow = SLOW if seconds > 3 * about else ""
                print(f"{path.stem}: {seconds / 60:.1f} min, expected {about / 60:.1f}{slow}", flush=True)
        summarise(root, settings, ledger)


def remake_read(settings: Settings) -> None:
    """Rebuild the BLIP-2 mini that the run starts from; raises CannotRun if it is another profile's."""
    study = Study.open(replace(settings, seed=Settings.seed))
    read, made = study.profile.pretrain and study.profile.pretrain.release, f"blip2_{settings.name}"
    if read not in (None, made):
        raise CannotRun(f"{settings.name} starts from data/{read}: build that again with `make pretrain`.")
    remake(study)


def prepare_kernels(root: Path) -> None:
    """Make every kernel started here use this environment's Python and this root's mglib."""
    path = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # or a kernel of the same name in the user's home wins
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # or each kernel starts with a debugger's warning


def run(
    settings: Settings,
    *,
    notebooks: str = "",
    seeds: int | None = None,
    force: bool = False,
    pretrain: bool = False,
    root: Path = ROOT,
) -> None:
    """Reproduce under one seed, or under `seeds` of them from 0; with `pretrain`, BLIP-2 mini is trained
    first. Raises CannotRun at the first failure.
    """
    runs = [replace(settings, seed=seed) for seed in chosen_seeds(settings.seed, seeds)]
    settings.found()  # raises before anything starts
    if settings.weights not in SOURCES:
        raise CannotRun(
            f"There is no source of weights {settings.weights!r}; choose one of {', '.join(SOURCES)}."
        )
    prepare_kernels(root)
    if pretrain:
        remake_read(settings)
    for one in runs:
        reproduce(root, one, notebooks, force=force)
