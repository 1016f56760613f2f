"""Converted weights on disk: every file is checked against its manifest each time it is asked for."""

import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mglib.locks import locked
from mglib.paths import atomic_write, sha256, shown, write_json

MANIFEST = "manifest.json"
RECIPE = 1  # raise it when a conversion changes: what older code has kept is then made again


def kept(folder: Path, *, origin: str, licence: str, make: Callable[[Path], dict[str, str]]) -> Path:
    """Return `folder` with its files as the manifest says, making them first where they are not.

    `origin` names what they are made from: when it changes, they are made again. `make(built)` writes them
    into the empty folder `built` and returns what else the manifest shall say. Another process that wants
    them meanwhile waits. Raises RuntimeError or OSError with the next step when they cannot be had.
    """
    with locked(folder):
        return _checked_or_made(folder, origin, licence, make)


def _checked_or_made(folder: Path, origin: str, licence: str, make: Callable[[Path], dict[str, str]]) -> Path:
    problem = fault(folder, origin=origin)
    if problem is None:
        return folder
    print(f"{problem} Making it from {origin.split()[0]} ...", flush=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
        built = Path(name) / "built"
        built.mkdir()
        with _told_when_full(folder):
            notes = make(built)
        _put_in_place(built, folder, {"origin": origin, "recipe": RECIPE, "licence": licence, **notes})
    return folder


def fault(folder: Path, *, origin: str) -> str | None:
    """Say in one sentence why `folder` cannot be used as it is, or return None: every file has its hash."""
    if not (folder / MANIFEST).exists():
        return f"{shown(folder)} is not there yet."
    manifest = read_manifest(folder)
    if (manifest.get("origin"), manifest.get("recipe")) != (origin, RECIPE):
        return f"{shown(folder)} was made from something else or by older code."
    for name, file in manifest["files"].items():
        if not (folder / name).exists():
            return f"{shown(folder / name)} is missing."
        if sha256(folder / name) != file["sha256"]:
            return f"{shown(folder / name)} is damaged (its sha256 is not the one in {MANIFEST})."
    return None


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest; a damaged one reads as empty, so that `fault` finds it."""
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except ValueError:
        return {}


def _put_in_place(built: Path, folder: Path, manifest: dict[str, Any]) -> None:
    # The old manifest goes first and the new one comes last: a kill in between reads as "not there yet".
    (folder / MANIFEST).unlink(missing_ok=True)
    files = {}
    for path in sorted(built.iterdir()):
        files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
        with atomic_write(folder / path.name) as temporary:
            os.replace(path, temporary)
    write_json(folder / MANIFEST, {**manifest, "files": files})


@contextmanager
def _told_when_full(folder: Path) -> Iterator[None]:
    # pip and safetensors report a full disk as errors of their own, recognisable only by the text.
    try:
        yield
    except Exception as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error):
            raise OSError(
                errno.ENOSPC,
                f"The disk is full: {shown(folder)} was not written. It needs about "
                "1 GB while it is made: free some space and run the same command again.",
            ) from error
        raise
