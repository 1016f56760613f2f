"""Localized Narratives: spoken descriptions whose words and mouse traces are timed (JSONL, one a line)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from mglib.data.quarantine import Fault
from mglib.data.records import Caption, FileName, fit_all, read_lines


@dataclass(frozen=True)
class Utterance:
    """A word or phrase, in seconds from the start of the recording."""

    utterance: str
    start_time: float
    end_time: float


@dataclass(frozen=True)
class Point:
    """Where the mouse was at `t` seconds: shares of width and height, beyond 0 and 1 outside the picture."""

    x: float
    y: float
    t: float


@dataclass(frozen=True, kw_only=True)
class Narrative:
    """One annotator's description of one picture; the release's files of captions alone have no times."""

    dataset_id: str
    image_id: FileName
    annotator_id: int
    caption: Caption
    timed_caption: tuple[Utterance, ...] = ()
    traces: tuple[tuple[Point, ...], ...] = ()
    voice_recording: str = ""  # a path inside the recordings' release


NARRATIVE = TypeAdapter(Narrative)


def read_narratives(path: Path) -> Iterator[Narrative | Fault]:
    """Yield the narratives of a JSONL file, line by line (a picture may have several)."""
    return fit_all(NARRATIVE, read_lines(path), path)
