"""COCO's captions and instances JSON."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator

from mglib.data.quarantine import Fault, keep, unique
from mglib.data.records import Caption, FilePath, Text, fit_list, read_json


@dataclass(frozen=True)
class CocoPicture:
    """One picture with all its captions and the categories of its annotated objects."""

    id: int
    file: Path
    captions: tuple[str, ...]
    objects: frozenset[str]


@dataclass(frozen=True)
class Identified:
    """An entry with an id of its own."""

    id: int


@dataclass(frozen=True)
class ImageEntry(Identified):
    """An entry of `images`."""

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
class CategoryEntry(Identified):
    """An entry of `categories`."""

    name: Annotated[Text, AfterValidator(spelt)]


Entry = TypeVar("Entry", bound=Identified)


def by_id(
    file: dict[str, Any], key: str, shape: type[Entry], path: Path, faults: list[Fault]
) -> dict[int, Entry]:
    """Return the list `key` of a COCO file as a dict by id; what does not fit goes to `faults`."""
    found = unique(fit_list(shape, file, key, path), path, lambda entry: entry.id)
    return {entry.id: entry for entry in keep(found, faults)}


def instances_of(captions: Path) -> Path:
    """Return the instances file that belongs to a captions file."""
    return captions.with_name(captions.name.replace("captions", "instances", 1))


def read(images: Path, captions: Path, instances: Path) -> Iterator[CocoPicture | Fault]:
    """Join captions and instances by picture, ordered by id; what does not fit comes first, as faults.

    A picture without a caption is a fault. Objects of pictures that the captions file does not list are left
    out: captions of a part of COCO are used with the instances of all of it. Raises ValueError if all objects
    are of other pictures: every mention would count as hallucinated.
    """
    described, annotated = read_json(captions), read_json(instances)
    faults: list[Fault] = []
    pictures = by_id(described, "images", ImageEntry, captions, faults)
    texts: dict[int, list[str]] = defaultdict(list)
    for said in keep(fit_list(CaptionEntry, described, "annotations", captions), faults):
        if said.image_id in pictures:
            texts[said.image_id].append(said.caption)
        else:
            faults.append(Fault(str(captions), str(said.image_id), "a caption of a picture not listed"))
    categories = by_id(annotated, "categories", CategoryEntry, instances, faults)
    objects: dict[int, set[str]] = defaultdict(set)
    for thing in keep(fit_list(ObjectEntry, annotated, "annotations", instances), faults):
        if thing.category_id in categories:
            objects[thing.image_id].add(categories[thing.category_id].name)
        else:
            reason = f"category {thing.category_id} is not listed"
            faults.append(Fault(str(instances), str(thing.image_id), reason))
    if len(pictures) > 1 and objects and not pictures.keys() & objects.keys():
        raise ValueError(
            f"{instances} has no object of any picture of {captions}: take both files of the same split."
        )
    yield from faults
    for number, picture in sorted(pictures.items()):
        if number in texts:
            file, found = images / picture.file_name, frozenset(objects.get(number, ()))
            yield CocoPicture(number, file, tuple(texts[number]), found)
        else:
            yield Fault(str(captions), str(number), "this picture has no caption")
