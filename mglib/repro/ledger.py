"""What a run in runs/ depends on and contains, which decides if it is kept, repeated or published."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from mglib.keys import closure, units_named
from mglib.locks import locked
from mglib.paths import hash_json, sha256, write_json
from mglib.settings import Settings

INJECTED = "injected-parameters"  # papermill's tag for the cell that it adds
MINUTES = "minutes.json"  # in a published run's folder of results/: each notebook's time and machine


class CannotRun(ValueError):
    """An error message for the user: what is wrong and what to do."""


def source_notebooks(root: Path) -> list[Path]:
    """Return the study's notebooks in their order."""
    return sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return a notebook's own code cells, without the one that papermill adds."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and INJECTED not in cell.metadata.get("tags", [])
    ]


def with_outputs(source: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """Return the source with the outputs of its run; raises ValueError when their code differs."""
    ours, theirs = code_cells(source), code_cells(executed)
    if [cell.source for cell in ours] != [cell.source for cell in theirs]:
        raise ValueError("the code of a notebook and of its run differ")
    for cell, done in zip(ours, theirs, strict=True):
        cell.outputs, cell.execution_count = done.outputs, done.execution_count
    return source


def inputs(root: Path) -> dict[str, str]:
    """Return the hashes of the files that every notebook may read: the lock and the tracked data.

    The tables of `make tune`, which no run reads, and hidden files are left out.
    """
    data, unread = root / "data", {root / "data" / "cache", root / "data" / "tuning"}
    found = [path for path in sorted(data.rglob("*")) if path.is_file() and not unread & {*path.parents}]
    read = [path for path in found if path.suffix != ".md" and not path.name.startswith(".")]
    return {str(path.relative_to(root)): sha256(path) for path in (root / "requirements.lock", *read)}


def dependencies(root: Path, settings: Settings) -> dict[str, dict[str, str]]:
    """Return, for each notebook by name, all that its results depend on, each part with a hash: settings,
    files, the code of mglib that it uses, directly or indirectly, and earlier notebooks.

    Prose does not count: it is written after the results have been read. Raises CannotRun for code that
    cannot be parsed.
    """
    common = {**inputs(root), "parameters": hash_json(asdict(settings))}
    result: dict[str, dict[str, str]] = {}
    for path in source_notebooks(root):
        cells = [cell.source for cell in code_cells(nbformat.read(path, as_version=4))]
        earlier = {name: hash_json(parts) for name, parts in result.items()}
        try:
            units = closure(units_named("\n".join(cells), root), root)
        except SyntaxError as error:
            raise CannotRun(f"{path.name}, or what it imports, is not valid Python: {error}.") from error
        used = {".".join(unit): hash_json(text) for unit, text in units.items()}
        result[path.stem] = {**common, **used, **earlier, "its code": hash_json(cells)}
    return result


def artefacts(folder: Path, name: str) -> dict[str, str]:
    """Return the hashes of the files that a notebook's Report wrote."""
    files = [folder / "numbers" / f"{name}.json"]
    files += [*(folder / "figures" / name).glob("*"), *(folder / "tables" / name).glob("*")]
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(files) if path.is_file()}


class Ledger:
    """The record of a run's folder: each finished notebook's dependencies, results and time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._file = folder / "keys.json"
        self.entries: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def stale(self, name: str, parts: dict[str, str]) -> str | None:
        """Return why the notebook has to run, or None if its results are up to date."""
        entry = self.entries.get(name)
        if entry is None or not (self.folder / f"{name}.ipynb").exists():
            return "no finished run yet"
        before = entry["parts"]
        changed = sorted(part for part in {*parts, *before} if parts.get(part) != before.get(part))
        if changed:
            return "changed: " + ", ".join(changed[:4]) + (" and more" if len(changed) > 4 else "")
        if artefacts(self.folder, name) != entry["artefacts"]:
            return "its results have been touched since"
        return None

    def remove(self, name: str) -> None:
        """Forget a notebook that is about to run."""
        self.entries.pop(name, None)
        write_json(self._file, self.entries)

    def add(self, name: str, parts: dict[str, str], seconds: float, **about: Any) -> None:
        """Record a finished notebook, and anything else `about` its run."""
        known = {"key": hash_json(parts), "seconds": round(seconds, 1)}
        entry = {**known, "artefacts": artefacts(self.folder, name), "parts": parts, **about}
        self.entries = dict(sorted({**self.entries, name: entry}.items()))
        write_json(self._file, self.entries)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Lock the run's folder; raises CannotRun if another process holds it. A kill releases the lock."""
    try:
        with locked(folder, wait=False):
            yield
    except BlockingIOError as error:
        raise CannotRun(
            f"{folder.name} is in the hands of another process: wait for it to end, or stop it, "
            "and run the same command again."
        ) from error
