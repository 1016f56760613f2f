"""Scene graphs (JSONL, one picture a line): what is in a picture beyond its annotated objects."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mglib.data.quarantine import strict
from mglib.data.records import Text, fit_all, read_lines


@dataclass(frozen=True)
class Item:
    """An object or a piece of scenery: its box [x, y, w, h] in pixels and its depth (0 near, 1 far)."""

    name: Text
    box: tuple[float, float, float, float]
    depth: float


@dataclass(frozen=True)
class Relation:
    """`subject` stands to `object` as `predicate` says, by their names."""

    subject: Text
    predicate: Text
    object: Text


@dataclass(frozen=True)
class Writing:
    """Text that can be read in the picture."""

    text: Text


@dataclass(frozen=True)
class SceneGraph:
    """One picture as a graph. Objects go by the catalog's own names, which may differ from COCO's."""

    image_id: int
    setting: str
    objects: tuple[Item, ...]
    props: tuple[Item, ...]
    relations: tuple[Relation, ...]
    writing: tuple[Writing, ...] = ()

    def counts(self) -> Counter[str]:
        """Return how many objects of each name there are."""
        return Counter(item.name for item in self.objects)


def read_scenes(path: Path) -> list[SceneGraph]:
    """Read a split's graphs in the order of its pictures; raises ValueError at the first fault."""
    return sorted(strict(fit_all(SceneGraph, read_lines(path), path)), key=lambda scene: scene.image_id)
