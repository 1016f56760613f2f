"""Localized Narratives: spoken descriptions (JSONL, one per line); their timings are not read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mglib.data.quarantine import Fault
from mglib.data.records import Caption, FileName, fit_all, read_lines


@dataclass(frozen=True)
class Narrative:
    """One annotator's description of one picture."""

    dataset_id: str
    image_id: FileName
    caption: Caption


def read_narratives(path: Path) -> Iterator[Narrative | Fault]:
    """Yield the narratives of a JSONL file, line by line (a picture may have several)."""
    return fit_all(Narrative, read_lines(path), path)
