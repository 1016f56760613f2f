"""Boxes with words: RefCOCO's referring expressions, Visual Genome's regions and relationships."""

import io
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, AliasPath, Field

from mglib.data import coco
from mglib.data.quarantine import Fault, unique
from mglib.data.records import Text, fit, fit_all, naming, read_items


@dataclass(frozen=True)
class Box:
    """A box in pixels from the picture's upper left corner."""

    x: float
    y: float
    width: Annotated[float, Field(ge=0, validation_alias=AliasChoices("width", "w"))]
    height: Annotated[float, Field(ge=0, validation_alias=AliasChoices("height", "h"))]


# --- RefCOCO, RefCOCO+, RefCOCOg ---


@dataclass(frozen=True, kw_only=True)
class Referred:
    """An object of a picture with the expressions that single it out."""

    ref_id: int
    image_id: int
    file_name: str
    split: str
    category: str
    box: Box
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Sentence:
    """An entry of `sentences`."""

    sent: Text


@dataclass(frozen=True, kw_only=True)
class RefEntry:
    """An entry of the pickled list."""

    ref_id: int
    ann_id: int
    image_id: int
    split: str
    sentences: Annotated[tuple[Sentence, ...], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class BoxEntry:
    """An entry of `annotations` in RefCOCO's instances.json."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]


class PlainUnpickler(pickle._Unpickler):
    """Reads lists, dicts, texts and numbers; refuses whatever would call or import something.

    It is Python's own unpickler in Python: the one in C reserves as much memory as a damaged file asks for.
    """

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and a list of expressions needs no code")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it points to something outside of itself")


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle of plain containers; raises ValueError with the file's name for anything else."""
    with naming(path):
        content = path.read_bytes()
    try:
        return PlainUnpickler(io.BytesIO(content), encoding="utf-8").load()
    except Exception as error:  # a damaged pickle makes the reader raise errors of nearly every kind
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{path} was refused, it is not a pickle of plain lists and dicts: {reason}"
        ) from error


def read_refcoco(refs: Path, instances: Path) -> Iterator[Referred | Fault]:
    """Join a file such as `refs(unc).p` with its `instances.json`.

    Raises ValueError when the pickle holds anything but plain data or the files are of another shape.
    """
    value = read_plain_pickle(refs)
    if not isinstance(value, list):
        raise ValueError(f"{refs} is not RefCOCO's: it holds no list.")
    known, faults = coco.read_json(instances), []
    names = coco.by_id(known, "images", coco.ImageEntry, instances, faults)
    categories = coco.by_id(known, "categories", coco.CategoryEntry, instances, faults)
    boxes = coco.by_id(known, "annotations", BoxEntry, instances, faults)
    yield from faults
    found = (fit(RefEntry, entry, refs, f"item {number}") for number, entry in enumerate(value))
    for ref in unique(found, refs, lambda ref: ref.ref_id):
        if isinstance(ref, Fault):
            yield ref
        elif ref.ann_id not in boxes or ref.image_id not in names:
            yield Fault(str(refs), str(ref.ref_id), f"its object or picture is not in {instances.name}")
        elif (box := boxes[ref.ann_id]).category_id not in categories or min(box.bbox[2:]) < 0:
            yield Fault(str(refs), str(ref.ref_id), f"its object in {instances.name} has no category or size")
        else:
            yield Referred(
                ref_id=ref.ref_id,
                image_id=ref.image_id,
                file_name=names[ref.image_id].file_name,
                split=ref.split,
                category=categories[box.category_id].name,
                box=Box(*box.bbox),
                sentences=tuple(sentence.sent for sentence in ref.sentences),
            )


# --- Visual Genome ---


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of a picture and a phrase about it."""

    image_id: int
    region_id: int
    phrase: Text
    box: Box


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object of a relationship; older releases give a list of names, of which the first is taken."""

    object_id: int
    name: Annotated[Text, Field(validation_alias=AliasChoices("name", AliasPath("names", 0)))]
    box: Box


@dataclass(frozen=True, kw_only=True)
class Relationship:
    """Two objects of a picture and what holds between them."""

    image_id: int
    relationship_id: int
    predicate: Text
    subject: Thing
    object: Thing


@dataclass(frozen=True)
class GenomePicture:
    """An item of Visual Genome's files: one picture with its list."""

    image_id: Annotated[int, Field(validation_alias=AliasChoices("image_id", "id"))]
    entries: Annotated[
        tuple[dict[str, Any], ...], Field(validation_alias=AliasChoices("regions", "relationships"))
    ]


def read_regions(path: Path) -> Iterator[Region | Fault]:
    """Yield the regions of `region_descriptions.json`, picture by picture."""
    for picture in genome_pictures(path):
        if isinstance(picture, Fault):
            yield picture
            continue
        for number, entry in enumerate(picture.entries):
            value = {**entry, "image_id": picture.image_id, "box": entry}
            yield fit(Region, value, path, f"picture {picture.image_id}, region {number}")


def read_relationships(path: Path) -> Iterator[Relationship | Fault]:
    """Yield the relationships of `relationships.json`, picture by picture."""

    def boxed(thing: Any) -> Any:
        return {**thing, "box": thing} if isinstance(thing, dict) else thing

    for picture in genome_pictures(path):
        if isinstance(picture, Fault):
            yield picture
            continue
        for number, entry in enumerate(picture.entries):
            ends = {end: boxed(entry.get(end)) for end in ("subject", "object")}
            value = {**entry, "image_id": picture.image_id, **ends}
            yield fit(Relationship, value, path, f"picture {picture.image_id}, relationship {number}")


def genome_pictures(path: Path) -> Iterator[GenomePicture | Fault]:
    """Yield the pictures of one of Visual Genome's files with their lists."""
    return unique(fit_all(GenomePicture, read_items(path), path), path, lambda picture: picture.image_id)
