"""The few photographs that scikit-image ships, for a model that was trained on drawings."""

from pathlib import Path

from mglib.data.pictures import open_picture
from mglib.data.splits import Split
from mglib.evals.chair import EVALUATION
from mglib.mentions import Vocabulary
from mglib.metrics import read_rows
from mglib.paths import DATA, sha256
from mglib.world.catalog import vocabulary

LABELS = DATA / "photographs.csv"


def photographs(folder: Path) -> Split:
    """Open the photographs in the list of labels, in its order, as a split without captions.

    The list has a row for each object. Raises ValueError if a file is not in `folder`.
    """
    objects: dict[str, set[str]] = {}
    for row in read_rows(LABELS):
        objects.setdefault(row["file"], set()).add(row["name"])
    if missing := [name for name in objects if not (folder / name).exists()]:
        raise ValueError(f"{LABELS.name} names {missing[0]}, which is not in {folder}: correct the list.")
    return Split(
        name="photographs",
        hashes=tuple(sha256(folder / name) for name in objects),
        captions=("",) * len(objects),
        images=lambda: (open_picture(folder / name) for name in objects),
        objects=tuple(map(frozenset, objects.values())),
    )


def words() -> Vocabulary:
    """Return the names of all objects of the small world and of the photographs."""
    return vocabulary(EVALUATION / "nouns.csv", LABELS, scenery=True)
