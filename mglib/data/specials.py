"""Reader of the special pictures: what each shows beyond its objects, as the world keeps it on disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mglib.data.quarantine import strict
from mglib.data.records import fit_all, read_lines


@dataclass(frozen=True)
class Named:
    """A thing in a picture."""

    name: str


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
        """Where its picture lies in the folder of its split."""
        return folder / "images" / f"{self.image_id:012d}.jpg"


def read_specials(folder: Path) -> list[Special]:
    """Read the pictures of a special split in order; raises ValueError at the first that does not fit."""
    file = folder / "scenes.jsonl"
    return list(strict(fit_all(Special, read_lines(file), file)))
