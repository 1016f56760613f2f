"""A log of JSON lines that is only ever added to, and a person's decisions in one."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mglib.paths import read_jsonl


class Journal:
    """The decisions of one person; the last can be taken back, which is another line."""

    def __init__(self, file: Path, *, key: str) -> None:
        """`key` names the field of an entry that says what it is about."""
        self.file, self.key = file, key
        self.entries = read_log(file)

    @property
    def standing(self) -> list[dict]:
        """The entries that were not taken back."""
        return in_force(self.entries)

    def add(self, entry: dict) -> None:
        """Put one line on the disk, then count it."""
        append(self.file, [entry])
        self.entries.append(entry)

    def undo(self) -> None:
        """Take the last decision back; does nothing where there is none."""
        if standing := self.standing:
            self.add({"undo": standing[-1][self.key]})


def append(file: Path, entries: Iterable[dict]) -> None:
    """Add one line an entry and wait until they are on the disk."""
    lines = list(map(one_line, entries))  # all of them, before the first is written
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8", newline="\n") as out:
        out.writelines(lines)
        out.flush()
        os.fsync(out.fileno())


def one_line(entry: dict) -> str:
    """Write an entry as it is read; half a character, as names of files may hold, as an escape."""
    text = json.dumps(entry, ensure_ascii=False)
    return (json.dumps(entry) if re.search("[\ud800-\udfff]", text) else text) + "\n"


def read_log(file: Path) -> list[dict]:
    """Read a log's lines, none where there is no file; a torn last line is told of and cut off.

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


def in_force(entries: Sequence[dict]) -> list[dict]:
    """Return the lines of a journal that were not taken back."""
    stack: list[dict] = []
    for entry in entries:
        if "undo" in entry:
            stack.pop()
        else:
            stack.append(entry)
    return stack
