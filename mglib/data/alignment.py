"""cc_sbu_align: the pictures and detailed descriptions of stage 2, in the official release's layout."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from pydantic import TypeAdapter

from mglib.data import records
from mglib.data.pictures import named_picture, open_picture
from mglib.data.quarantine import Fault
from mglib.data.records import Caption, FileName, fit


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
    caption: Caption


ENTRY = TypeAdapter(Entry)


def read_cc_sbu_align(folder: Path) -> Iterator[AlignedPair | Fault]:
    """Yield the pairs of a folder with `filter_cap.json` and `image/<image_id>.jpg`, or another ending.

    Several texts about a picture are several pairs. Raises ValueError when filter_cap.json is of another
    shape.
    """
    path = folder / "filter_cap.json"
    value = records.read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("annotations"), list):
        raise ValueError(f"{path} is not cc_sbu_align's: it needs the key `annotations` with a list.")
    seen: set[tuple[Path, str]] = set()
    for number, given in enumerate(value["annotations"]):
        entry = fit(ENTRY, given, path, f"annotations[{number}]")
        if isinstance(entry, Fault):
            yield entry
            continue
        file = named_picture(folder / "image", entry.image_id)
        if not file.is_file():
            yield Fault(str(path), entry.image_id, f"its picture {file} is missing")
        elif (file, entry.caption) in seen:
            yield Fault(str(path), entry.image_id, "this text of its picture came before")
        else:
            seen.add((file, entry.caption))
            yield AlignedPair(file.stem, file, entry.caption)
