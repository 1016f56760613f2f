"""A split of a study, whatever its format on disk: pictures, web captions and, where annotated, the truth."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mglib.data import coco, shards
from mglib.data.text import clean_caption
from mglib.paths import content_key, sha256


@dataclass(frozen=True, kw_only=True)
class Split:
    """The pictures of one split in order, with one cleaned web caption each."""

    name: str
    hashes: tuple[str, ...]  # SHA-256 of each picture's bytes
    captions: tuple[str, ...]
    images: Callable[[], Iterator[Image.Image]]
    references: tuple[
        tuple[str, ...], ...
    ] = ()  # five descriptions each, where people (or the world) gave them
    objects: tuple[frozenset[str], ...] = ()  # what is in each picture, where it is annotated

    def __len__(self) -> int:
        return len(self.captions)

    def key(self) -> str:
        """Name the pictures by their content."""
        return content_key(self.hashes)

    def first(self, count: int) -> list[Image.Image]:
        """Return the first pictures: figures show these, so nobody chooses them by hand."""
        return [image for image, _ in zip(self.images(), range(count), strict=False)]


def web_split(folder: Path) -> Split:
    """Read the webdataset shards of a folder."""
    files = shards.shards(folder)
    captions, hashes = zip(*shards.captions(files), strict=True)
    return Split(
        name=folder.name,
        hashes=hashes,
        captions=tuple(map(clean_caption, captions)),
        images=lambda: shards.images(files),
    )


def annotated_split(folder: Path) -> Split:
    """Read a folder with `images/` and COCO's `captions.json`, `instances.json` and `web_captions.json`."""
    pictures = coco.read_coco(folder / "images", folder / "captions.json", folder / "instances.json")
    web = {
        entry["image_id"]: entry["caption"]
        for entry in coco.read_json(folder / "web_captions.json")["annotations"]
    }
    bare = [picture.id for picture in pictures if picture.id not in web]
    if bare:
        raise ValueError(
            f"{folder / 'web_captions.json'}: {len(bare)} pictures have no caption, the first is {bare[0]}."
        )
    return Split(
        name=folder.name,
        hashes=tuple(sha256(picture.file) for picture in pictures),
        captions=tuple(clean_caption(web[picture.id]) for picture in pictures),
        images=lambda: (picture.open() for picture in pictures),
        references=tuple(picture.captions for picture in pictures),
        objects=tuple(picture.objects for picture in pictures),
    )


class Pairs(Dataset):
    """Precomputed picture features (under `name`: "tokens" or "queries") with their captions."""

    def __init__(self, name: str, features: Sequence[Tensor], captions: Sequence[str]) -> None:
        if len(features) != len(captions):
            raise ValueError(
                f"{len(features)} pictures but {len(captions)} captions: compute the features again."
            )
        self.name, self.features, self.captions = name, features, captions

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        return self.features[index], self.captions[index]

    def collate(self, layout: Callable[[list[str]], dict[str, Tensor]]) -> Callable[[list], dict[str, Any]]:
        """Return a collate function: stacked features, and what `layout` makes of the captions."""

        def stack(rows: list[tuple[Tensor, str]]) -> dict[str, Any]:
            features, captions = zip(*rows, strict=True)
            return {self.name: torch.stack(features), **layout(list(captions))}

        return stack


def in_lists(items: Iterable, size: int) -> Iterator[list]:
    """Yield lists of `size` items, the last one perhaps shorter (itertools.batched, which Python 3.11
    lacks).
    """
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part
