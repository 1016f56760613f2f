"""The few photographs that scikit-image ships, for a model that was trained on drawings."""

from dataclasses import dataclass
from pathlib import Path

from mglib.data.pictures import open_picture
from mglib.data.splits import Split
from mglib.evals.chair import EVALUATION, Truth, generalised
from mglib.mentions import Vocabulary
from mglib.metrics import read_rows
from mglib.paths import DATA, sha256
from mglib.world.catalog import vocabulary

LABELS = DATA / "photographs.csv"


@dataclass(frozen=True)
class Photographs:
    """Photographs as a split without captions, with what each shows."""

    split: Split
    titles: tuple[str, ...]
    objects: tuple[tuple[str, ...], ...]  # as listed


def photographs(folder: Path, labels: Path = LABELS) -> Photographs:
    """Open the photographs that the list of labels names, in its order; it has a row for each object.

    Raises ValueError naming a file that is not in `folder`.
    """
    rows = read_rows(labels)
    names = list(dict.fromkeys(row["file"] for row in rows))
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise ValueError(f"{labels.name} names {missing[0]}, which is not in {folder}: correct the list.")
    titles = {row["file"]: row["title"] for row in rows}
    return Photographs(
        Split(
            name="photographs",
            hashes=tuple(sha256(folder / name) for name in names),
            captions=("",) * len(names),
            images=lambda: (open_picture(folder / name) for name in names),
        ),
        tuple(titles[name] for name in names),
        tuple(tuple(row["name"] for row in rows if row["file"] == name) for name in names),
    )


def words(labels: Path = LABELS) -> Vocabulary:
    """Return the names of all objects of the small world and of the photographs."""
    return vocabulary(EVALUATION / "nouns.csv", labels, scenery=True)


def truths(shown: Photographs) -> list[Truth]:
    """Say what each photograph shows; whatever is more general may be said, too."""
    return [
        Truth(tuple(generalised([name]) for name in names), generalised(names)) for names in shown.objects
    ]
