"""cc_sbu_align: the pictures and detailed descriptions of stage 2, in the official release's layout."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from pydantic import TypeAdapter

from mglib.data import records
from mglib.data.pictures import open_picture
from mglib.data.quarantine import Fault, unique
from mglib.data.records import FileName, Text, fit


@dataclass(frozen=True)
class AlignedPair:
    """One picture and its description, as it is (stage 2 cleans no captions)."""

    image_id: str
    file: Path
    caption: str

    def open(self) -> Image.Image:
        """Read the picture."""
        return open_picture(self.file)


@dataclass(frozen=True)
class Entry:
    """An entry of `annotations` in filter_cap.json."""

    image_id: FileName
    caption: Text


ENTRY = TypeAdapter(Entry)


def read_cc_sbu_align(folder: Path) -> Iterator[AlignedPair | Fault]:
    """Yield the pairs of a folder with `filter_cap.json` and `image/<image_id>.jpg`.

    Raises ValueError when filter_cap.json is of another shape.
    """
    path = folder / "filter_cap.json"
    value = records.read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("annotations"), list):
        raise ValueError(f"{path} is not cc_sbu_align's: it needs the key `annotations` with a list.")
    found = (fit(ENTRY, entry, path, f"annotations[{n}]") for n, entry in enumerate(value["annotations"]))
    for entry in unique(found, path, lambda entry: entry.image_id):
        if isinstance(entry, Fault):
            yield entry
            continue
        file = folder / "image" / f"{entry.image_id}.jpg"
        if file.exists():
            yield AlignedPair(entry.image_id, file, entry.caption)
        else:
            yield Fault(str(path), entry.image_id, f"its picture {file} is missing")
