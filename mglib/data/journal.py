"""An append-only log of JSON lines."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from mglib.paths import read_jsonl


def append(file: Path, entries: Iterable[dict]) -> None:
    """Append one line per entry and wait until they are on disk."""
    lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries]  # all, before any is written
    file.parent.mkdir(parents=True, exist_ok=True)
    # A lone surrogate, as in undecodable file names, is written as \udce9, which is JSON's escape too.
    with file.open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as out:
        out.writelines(lines)
        out.flush()
        os.fsync(out.fileno())


def read_log(file: Path) -> list[dict]:
    """Read a log's lines, none if there is no file; a torn last line is reported and cut off.

    Raises ValueError with file and line for any other line that is not JSON.
    """
    if not file.exists():
        return []
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        print(f"{file.name}: the last line is torn; what it was about is done again.")
        os.truncate(file, whole)
    return read_jsonl(file)
