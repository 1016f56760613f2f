"""COCO's captions and instances JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from PIL import Image
from pydantic import AfterValidator, TypeAdapter

from mglib.data import records
from mglib.data.pictures import open_picture
from mglib.data.quarantine import Fault, keep, strict, unique
from mglib.data.records import Caption, FilePath, Text, fit

T = TypeVar("T")


@dataclass(frozen=True)
class CocoPicture:
    """One picture with all its captions and the categories of its annotated objects."""

    id: int
    file: Path
    captions: tuple[str, ...]
    objects: frozenset[str]

    def open(self) -> Image.Image:
        """Read the picture."""
        return open_picture(self.file)


@dataclass(frozen=True)
class ImageEntry:
    """An entry of `images`."""

    id: int
    file_name: FilePath


@dataclass(frozen=True)
class CaptionEntry:
    """An entry of `annotations` in a captions file."""

    image_id: int
    caption: Caption


@dataclass(frozen=True)
class ObjectEntry:
    """An entry of `annotations` in an instances file."""

    image_id: int
    category_id: int


def spelt(name: str) -> str:
    """Spell a category as COCO does: "Teddy_Bear" is "teddy bear"."""
    return " ".join(name.replace("_", " ").lower().split())


@dataclass(frozen=True)
class CategoryEntry:
    """An entry of `categories`."""

    id: int
    name: Annotated[Text, AfterValidator(spelt)]


def read_json(path: Path) -> dict[str, Any]:
    """Read an annotation file; raises ValueError with the reason when it is not COCO's."""
    value = records.read_json(path)
    if not isinstance(value, dict) or not {"images", "annotations"} <= value.keys():
        raise ValueError(f"{path} is not a COCO file: it needs the keys `images` and `annotations`.")
    return value


def entries(file: dict[str, Any], key: str, shape: type[T], path: Path) -> Iterator[T | Fault]:
    """Yield one of the lists of a COCO file; raises ValueError when it is no list."""
    if not isinstance(file.get(key), list):
        raise ValueError(f"{path} is not a COCO file of this kind: it needs the key `{key}` with a list.")
    adapter = TypeAdapter(shape)
    for number, entry in enumerate(file[key]):
        yield fit(adapter, entry, path, f"{key}[{number}]")


def read(images: Path, captions: Path, instances: Path) -> Iterator[CocoPicture | Fault]:
    """Join captions and instances by picture, ordered by id; what does not fit comes first, as faults.

    A picture without a caption is a fault. Objects of pictures that the captions do not name are left out:
    captions of a part of COCO are used with the instances of all of it. Raises ValueError where all objects
    are of other pictures: whatever is said would count as invented.
    """
    described, annotated = read_json(captions), read_json(instances)
    faults: list[Fault] = []
    listed = unique(entries(described, "images", ImageEntry, captions), captions, lambda entry: entry.id)
    names = {entry.id: entry.file_name for entry in keep(listed, faults)}
    texts: dict[int, list[str]] = {}
    for entry in keep(entries(described, "annotations", CaptionEntry, captions), faults):
        if entry.image_id in names:
            texts.setdefault(entry.image_id, []).append(entry.caption)
        else:
            faults.append(Fault(str(captions), str(entry.image_id), "a caption of a picture not listed"))
    objects: dict[int, set[str]] = {}
    for image_id, name in keep(read_objects(annotated, instances), faults):
        objects.setdefault(image_id, set()).add(name)
    if len(names) > 1 and objects and not names.keys() & objects.keys():
        raise ValueError(
            f"{instances} has no object of any picture of {captions}: take both files of the same split."
        )
    yield from faults
    for number, name in sorted(names.items()):
        if number not in texts:
            yield Fault(str(captions), str(number), "this picture has no caption")
        else:
            found = frozenset(objects.get(number, ()))
            yield CocoPicture(number, images / name, tuple(texts[number]), found)


def read_objects(annotated: dict[str, Any], path: Path) -> Iterator[tuple[int, str] | Fault]:
    """Yield a picture's id and a category's name for each annotated object."""
    faults: list[Fault] = []
    listed = unique(entries(annotated, "categories", CategoryEntry, path), path, lambda entry: entry.id)
    categories = {entry.id: entry.name for entry in keep(listed, faults)}
    for entry in keep(entries(annotated, "annotations", ObjectEntry, path), faults):
        if entry.category_id in categories:
            yield entry.image_id, categories[entry.category_id]
        else:
            faults.append(
                Fault(str(path), str(entry.image_id), f"category {entry.category_id} is not listed")
            )
    yield from faults


def read_coco(images: Path, captions: Path, instances: Path) -> list[CocoPicture]:
    """Read what must be whole: raises ValueError at the first fault."""
    return list(strict(read(images, captions, instances)))
