"""Paths on disk, and the only way in which files are written: whole or not at all."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
IN_CLONE = (PACKAGE.parent / "requirements.lock").is_file()  # else the package is installed, as a wheel
ROOT = PACKAGE.parent if IN_CLONE else Path.cwd()  # output goes below it
DATA = ROOT / "data" if IN_CLONE else PACKAGE / "_data"  # tracked lists that code reads (pyproject.toml)
CACHE = ROOT / "data" / "cache"
RESULTS = ROOT / "results"  # published runs
DOWNLOADS = ROOT / "downloads"  # the paper's weights and data; may be a link to a larger disk
RUNS = ROOT / "runs"
TUNING = ROOT / "data" / "tuning"  # grid searches: one folder per profile, one table per grid


@contextmanager
def full_disk_advice(path: Path) -> Iterator[None]:
    """Turn any error about a full disk, raised while `path` is written, into an OSError with advice."""
    try:
        yield
    except Exception as error:
        # pip and safetensors report it as errors of their own, recognisable only by the text.
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error):
            raise OSError(
                errno.ENOSPC,
                f"The disk is full: {shown(path)} was not written. Free some space (for instance with `make "
                "clean`) and run the same command again.",
            ) from error
        raise


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in `path`'s folder; on success flush it to disk and put it in `path`'s place.

    A kill at any moment leaves either the old file or the new one. Raises OSError with advice on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        with full_disk_advice(path):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder and on success move it to `folder`, deleting what it replaces just before.

    Raises FileExistsError if `folder` exists and is not to be replaced, OSError with advice on a full disk.
    """
    if folder.exists() and not replace:
        raise FileExistsError(f"{folder} exists already: delete it or name another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    built = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        with full_disk_advice(folder):
            yield built
            built.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            built.replace(folder)
    finally:
        shutil.rmtree(built, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read one JSON object per line; only a line feed ends a line. Raises ValueError with file and line."""
    found = []
    for number, line in enumerate(path.read_bytes().removeprefix(BOM_UTF8).split(b"\n"), start=1):
        if line.strip():
            try:
                found.append(json.loads(line.decode("utf-8")))
            except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
                raise ValueError(f"{path}, line {number} is not JSON in UTF-8: {error}") from error
            if not isinstance(found[-1], dict):
                raise ValueError(f"{path}, line {number} is no JSON object: write {{...}}.")
    return found


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown(path: Path) -> Path:
    """Return `path` as printed: from the repository's root, so that no notebook shows a machine's folders."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def hash_json(value: Any) -> str:
    """Return 16 hex digits that name a JSON-like value (dataclasses as dicts, paths as strings)."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
