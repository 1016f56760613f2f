"""COCO's captions and instances JSON."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class CocoPicture:
    """One picture with all its captions and the categories of its annotated objects."""

    id: int
    file: Path
    captions: tuple[str, ...]
    objects: frozenset[str]

    def open(self) -> Image.Image:
        """Read the picture."""
        return Image.open(self.file).convert("RGB")


def read_json(path: Path) -> dict[str, Any]:
    """Read an annotation file; raises ValueError with the reason when it is not COCO's."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing: build the small world (`make reproduce NOTEBOOKS=01`) or put "
            "COCO's annotations there."
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict) or not {"images", "annotations"} <= value.keys():
        raise ValueError(f"{path} is not a COCO file: it needs the keys `images` and `annotations`.")
    return value


def read_coco(images: Path, captions: Path, instances: Path) -> list[CocoPicture]:
    """Join captions and instances by picture, ordered by id.

    Raises ValueError when a picture has no caption: it would silently fall out of every score.
    """
    described, annotated = read_json(captions), read_json(instances)
    if "categories" not in annotated:
        raise ValueError(f"{instances} is not a COCO instances file: it needs the key `categories`.")
    texts: dict[int, list[str]] = {}
    for annotation in described["annotations"]:
        texts.setdefault(annotation["image_id"], []).append(annotation["caption"])
    categories = {category["id"]: category["name"] for category in annotated["categories"]}
    objects: dict[int, set[str]] = {}
    for annotation in annotated["annotations"]:
        objects.setdefault(annotation["image_id"], set()).add(categories[annotation["category_id"]])
    bare = [image["id"] for image in described["images"] if image["id"] not in texts]
    if bare:
        raise ValueError(f"{captions}: {len(bare)} pictures have no caption, the first is {bare[0]}.")
    return [
        CocoPicture(
            image["id"],
            images / image["file_name"],
            tuple(texts[image["id"]]),
            frozenset(objects.get(image["id"], ())),
        )
        for image in sorted(described["images"], key=lambda image: image["id"])
    ]
