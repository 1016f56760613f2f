"""A split of a study, whatever its format on disk: pictures, web captions and, if annotated, ground truth."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mglib.data import coco
from mglib.data.coco import CaptionEntry, CocoPicture, ImageEntry
from mglib.data.pictures import open_picture
from mglib.data.quarantine import strict
from mglib.data.records import fit_list, read_json
from mglib.data.shards import WebPair, read_shards, shards
from mglib.data.text import clean_caption
from mglib.paths import hash_json
from mglib.paths import sha256 as file_sha256

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Split:
    """The pictures of one split in order, with one cleaned web caption each."""

    name: str
    hashes: tuple[str, ...]  # SHA-256 of each picture's bytes
    captions: tuple[str, ...]
    images: Callable[[], Iterator[Image.Image]]
    # Several descriptions per picture, if people (or the small world) gave them.
    references: tuple[tuple[str, ...], ...] = ()
    objects: tuple[frozenset[str], ...] = ()  # the objects in each picture, if annotated

    def __len__(self) -> int:
        return len(self.captions)

    def key(self) -> str:
        """Return a hash of the pictures' contents."""
        return hash_json(self.hashes)

    def first(self, count: int) -> list[Image.Image]:
        """Return the first pictures: figures show these, so that none is hand-picked."""
        return [image for image, _ in zip(self.images(), range(count), strict=False)]


def pair_split(name: str, pairs: Iterable[WebPair], again: Callable[[], Iterable[WebPair]]) -> Split:
    """Make a split of web pairs; `again` re-reads them for each pass over the pictures."""
    found = [(sha256(pair.picture).hexdigest(), clean_caption(pair.caption)) for pair in pairs]
    return Split(
        name=name,
        hashes=tuple(digest for digest, _ in found),
        captions=tuple(caption for _, caption in found),
        images=lambda: (pair.open() for pair in again()),
    )


def file_split(name: str, files: Sequence[Path], captions: Iterable[str], **truth: Any) -> Split:
    """Make a split of picture files; `truth` holds the references and objects, if known."""
    return Split(
        name=name,
        hashes=tuple(map(file_sha256, files)),
        captions=tuple(captions),
        images=lambda: map(open_picture, files),
        **truth,
    )


def coco_split(name: str, pictures: Sequence[CocoPicture], captions: Iterable[str]) -> Split:
    """Make a split of annotated pictures with these web captions."""
    return file_split(
        name,
        [picture.file for picture in pictures],
        map(clean_caption, captions),
        references=tuple(picture.captions for picture in pictures),
        objects=tuple(picture.objects for picture in pictures),
    )


def web_split(folder: Path) -> Split:
    """Read the webdataset shards of a folder, and all captions of each picture if the folder also has COCO's
    `captions.json`, with the pictures in the same order.
    """
    files = shards(folder)

    def pairs() -> Iterator[WebPair]:
        return strict(read_shards(files))

    split = pair_split(folder.name, pairs(), pairs)
    return replace(split, references=several_captions(folder / "captions.json", len(split)))


def several_captions(file: Path, count: int) -> tuple[tuple[str, ...], ...]:
    """Read the cleaned captions of `count` pictures from a file in COCO's format, none if there is no file.

    Raises ValueError if it lists more or fewer pictures.
    """
    if not file.exists():
        return ()
    content = read_json(file)
    pictures = strict(fit_list(ImageEntry, content, "images", file))
    said: dict[int, list[str]] = {picture.id: [] for picture in pictures}
    if len(said) != count:
        raise ValueError(f"{file} is about {len(said)} pictures, the shards in its folder hold {count}.")
    for entry in strict(fit_list(CaptionEntry, content, "annotations", file)):
        said[entry.image_id].append(clean_caption(entry.caption))
    return tuple(tuple(dict.fromkeys(captions)) for captions in said.values())


def annotated_split(folder: Path) -> Split:
    """Read a folder with `images/` and COCO's `captions.json`, `instances.json` and `web_captions.json`."""
    pictures = list(strict(coco.read(folder / "images", folder / "captions.json", folder / "instances.json")))
    file = folder / "web_captions.json"
    entries = strict(fit_list(CaptionEntry, read_json(file), "annotations", file))
    web = {entry.image_id: entry.caption for entry in entries}
    bare = [picture.id for picture in pictures if picture.id not in web]
    if bare:
        raise ValueError(f"{file}: {len(bare)} pictures have no caption, the first is {bare[0]}.")
    return coco_split(folder.name, pictures, [web[picture.id] for picture in pictures])


class Pairs(Dataset):
    """Precomputed picture features (under `name`: "tokens" or "queries") with their captions.

    A picture has one caption or several; each caption is a sample.
    """

    def __init__(
        self, name: str, features: Sequence[Tensor], captions: Sequence[str] | Sequence[Sequence[str]]
    ) -> None:
        if len(features) != len(captions):
            raise ValueError(
                f"{len(features)} pictures but {len(captions)} captions: compute the features again."
            )
        self.name, self.features = name, features
        self.rows = [
            (index, caption)
            for index, said in enumerate(captions)
            for caption in ([said] if isinstance(said, str) else said)
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        picture, caption = self.rows[index]
        return self.features[picture], caption

    def collate(self, layout: Callable[[list[str]], dict[str, Tensor]]) -> Callable[[list], dict[str, Any]]:
        """Return a collate function: stacked features, and what `layout` makes of the captions."""

        def stack(rows: list[tuple[Tensor, str]]) -> dict[str, Any]:
            features, captions = zip(*rows, strict=True)
            return {self.name: torch.stack(features), **layout(list(captions))}

        return stack


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one perhaps shorter (itertools.batched of Python 3.12)."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part
