"""What persons decided about the texts of a curation, as their journal holds it."""

from collections.abc import Sequence
from pathlib import Path

from mglib.curation.select import Verdict
from mglib.data.journal import in_force, read_log


def standing(entries: Sequence[dict]) -> dict[str, Verdict]:
    """Return the verdict that holds for each picture: the last one that was not taken back."""
    return {
        entry["image_id"]: Verdict(entry["shown"], entry["keep"], entry["text"])
        for entry in in_force(entries)
    }


def verdicts(log: Path) -> dict[str, Verdict] | None:
    """Return what persons decided, for `curate`; None where nobody has decided anything."""
    return standing(read_log(log)) or None
