"""What the small world knows of each of its pictures (JSONL, one a line), as far as a study reads it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mglib.data.quarantine import strict
from mglib.data.records import Text, fit_all, read_lines


@dataclass(frozen=True)
class Named:
    """An object or a piece of scenery, by the catalog's own name, which may differ from COCO's."""

    name: Text


@dataclass(frozen=True)
class Writing:
    """Text that can be read in the picture."""

    text: Text


@dataclass(frozen=True)
class SceneGraph:
    """One picture with all that is in it."""

    image_id: int
    setting: str
    objects: tuple[Named, ...]
    props: tuple[Named, ...]
    writing: tuple[Writing, ...] = ()


@dataclass(frozen=True)
class Special:
    """A special picture: objects and props by name, and the truth of its kind (a joke, a dish, a brand)."""

    image_id: int
    kind: str
    setting: str
    objects: tuple[Named, ...]
    props: tuple[Named, ...]
    truth: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The objects, each kind once."""
        return tuple(dict.fromkeys(one.name for one in self.objects))

    @property
    def in_words(self) -> str:
        """What it shows, for a reader who cannot see it: its place, its things and the truth of its kind."""
        things = [*self.names, *dict.fromkeys(prop.name for prop in self.props)]
        shows = {"place": self.setting, "things": ", ".join(things), **self.truth}
        plain = {
            name: ", ".join(value) if isinstance(value, list) else value for name, value in shows.items()
        }
        return "; ".join(f"{name}: {value}" for name, value in plain.items() if value)

    def file(self, folder: Path) -> Path:
        """Where its picture is in the folder of its split."""
        return folder / "images" / f"{self.image_id:012d}.jpg"


def read_scenes(path: Path) -> list[SceneGraph]:
    """Read a split's graphs in the order of its pictures; raises ValueError at the first fault."""
    return sorted(strict(fit_all(SceneGraph, read_lines(path), path)), key=lambda scene: scene.image_id)


def read_specials(folder: Path) -> list[Special]:
    """Read the pictures of a special split in order; raises ValueError at the first that does not fit."""
    file = folder / "scenes.jsonl"
    return list(strict(fit_all(Special, read_lines(file), file)))
