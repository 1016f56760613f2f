"""Texts about parts of pictures: RefCOCO's expressions, Visual Genome's regions and relationships."""

import io
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AliasChoices, AliasPath, Field

from mglib.data import coco
from mglib.data.quarantine import Fault, unique
from mglib.data.records import Text, fit, fit_all, naming, read_items, read_json

T = TypeVar("T")
Area = tuple[float, float, float, float]  # x, y, width, height in pixels, from the upper left corner

# --- RefCOCO, RefCOCO+, RefCOCOg ---


@dataclass(frozen=True)
class Referred:
    """An object in a picture, with the expressions that single it out."""

    image_id: int
    file_name: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Sentence:
    """An entry of `sentences`."""

    sent: Text


@dataclass(frozen=True)
class RefEntry:
    """An entry of the pickled list."""

    ref_id: int
    ann_id: int
    image_id: int
    sentences: Annotated[tuple[Sentence, ...], Field(min_length=1)]


@dataclass(frozen=True)
class BoxEntry(coco.Identified):
    """An entry of `annotations` in an instances.json with boxes."""

    image_id: int
    category_id: int
    bbox: Area


class PlainUnpickler(pickle._Unpickler):
    """Reads lists, dicts, strings and numbers; refuses anything that would call or import code.

    Based on the pure-Python unpickler: the C one allocates as much memory as a damaged file asks for.
    """

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and a list of expressions needs no code")


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle of plain containers; raises ValueError with the file's name for anything else."""
    with naming(path):
        content = path.read_bytes()
    try:
        return PlainUnpickler(io.BytesIO(content), encoding="utf-8").load()
    except Exception as error:  # a damaged pickle can raise almost any error
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
    faults: list[Fault] = []
    known = read_json(instances)
    pictures = coco.by_id(known, "images", coco.ImageEntry, instances, faults)
    objects = coco.by_id(known, "annotations", BoxEntry, instances, faults)
    yield from faults
    found = fit_all(RefEntry, ((f"item {number}", entry) for number, entry in enumerate(value)), refs)
    for ref in unique(found, refs, lambda ref: ref.ref_id):
        if isinstance(ref, Fault):
            yield ref
        elif ref.ann_id not in objects or ref.image_id not in pictures:
            yield Fault(str(refs), str(ref.ref_id), f"its object or picture is not in {instances.name}")
        else:
            sentences = tuple(sentence.sent for sentence in ref.sentences)
            yield Referred(ref.image_id, pictures[ref.image_id].file_name, sentences)


# --- Visual Genome ---


@dataclass(frozen=True)
class Region:
    """A phrase about a part of a picture."""

    image_id: int
    phrase: Text


@dataclass(frozen=True)
class Thing:
    """An object in a relationship; older releases give a list of names, and the first is used."""

    name: Annotated[Text, Field(validation_alias=AliasChoices("name", AliasPath("names", 0)))]
    x: float
    y: float
    w: Annotated[float, Field(ge=0)]
    h: Annotated[float, Field(ge=0)]

    @property
    def area(self) -> Area:
        """The object's bounding box."""
        return self.x, self.y, self.w, self.h


@dataclass(frozen=True)
class Relationship:
    """Two objects in a picture and the relation between them."""

    image_id: int
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
    return genome_entries(path, Region)


def read_relationships(path: Path) -> Iterator[Relationship | Fault]:
    """Yield the relationships of `relationships.json`, picture by picture."""
    return genome_entries(path, Relationship)


def genome_entries(path: Path, shape: type[T]) -> Iterator[T | Fault]:
    """Yield each entry of each picture of one of Visual Genome's files."""
    found = fit_all(GenomePicture, read_items(path), path)
    for picture in unique(found, path, lambda picture: picture.image_id):
        if isinstance(picture, Fault):
            yield picture
            continue
        for number, entry in enumerate(picture.entries):
            place = f"picture {picture.image_id}, {shape.__name__.lower()} {number}"
            yield fit(shape, {**entry, "image_id": picture.image_id}, path, place)
